"""Where a model goes and how large it may be there, decided for machines that are described."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.architecture import Hints, read_architecture
from inference.drafts import CUDA_CONTEXT_BYTES, GPU_HOST_BYTES, RUNTIME_BYTES
from inference.facts import ModelFacts
from inference.memory import Choices, Device, MemoryPlan, UnservableChoice, plan_memory
from inference.weights import TensorGroup

GB = 10**9
SHAPE = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "dtype": "bfloat16",
}
KV_TOKEN_BYTES = 32 * 2 * 8 * 128 * 2


def model(*, gb: float = 14, **config: Any) -> ModelFacts:
    """A Llama of 8 billion: so many gigabytes of linear weights as bfloat16, and 2.1 of embeddings and head."""
    sizes = {"embedding": 128256 * 4096, "head": 128256 * 4096, "linear": round(gb * GB / 2)}
    groups = tuple(TensorGroup(kind, "BF16", values, 2 * values) for kind, values in sizes.items())
    return ModelFacts(read_architecture(SHAPE | config, hints=Hints()), groups)


def cpu(free_gb: float = 100, *, reclaimable_gb: float = 0) -> Device:
    return Device("cpu", 128 * GB, round(free_gb * GB), "main memory", round(reclaimable_gb * GB))


def gpu(number: int, free_gb: float, *, reclaimable_gb: float = 0) -> Device:
    return Device(f"cuda:{number}", 80 * GB, round(free_gb * GB), "A100", round(reclaimable_gb * GB))


def plan(facts: ModelFacts, *devices: Device, **choices: Any) -> MemoryPlan:
    return plan_memory(facts, choices=Choices(**choices), devices=devices or [cpu()])


class TestDefaults:
    def test_one_whole_context_and_several_shorter_ones(self) -> None:
        decided = plan(model(), gpu(0, 80), cpu())
        assert (decided.context_length, decided.parallel_requests, decided.kv_tokens) == (8192, 16, 16384)
        assert (decided.device, decided.dtype, decided.quantization, decided.notes) == (
            "cuda:0",
            "bfloat16",
            "none",
            (),
        )
        assert decided.shares["cuda:0"].weights_bytes == pytest.approx(16.1 * GB, rel=0.01)
        assert decided.shares["cuda:0"].kv_bytes == (16384 + 2 * 256) * KV_TOKEN_BYTES
        assert decided.shares["cuda:0"].overhead_bytes > CUDA_CONTEXT_BYTES
        assert decided.shares["cpu"].total_bytes == GPU_HOST_BYTES

    def test_the_context_is_never_more_than_the_models_own(self) -> None:
        assert plan(model(max_position_embeddings=2048)).context_length == 2048
        decided = plan(model(max_position_embeddings=2048), context_length=9000)
        assert decided.context_length == 2048
        assert decided.notes == (
            "The model knows no more than 2048 tokens of context, and 9000 were chosen: it gets 2048.",
        )

    def test_a_chosen_context_is_kept_and_the_cache_holds_it(self) -> None:
        decided = plan(model(), context_length=40_000, parallel_requests=2)
        assert (decided.context_length, decided.parallel_requests) == (40_000, 2)
        assert decided.kv_tokens == 40_192  # whole pages
        assert plan(model(), context_length=1000, parallel_requests=2).kv_tokens == 2048

    def test_a_cpu_computes_in_float32_unless_it_can_do_better_or_something_else_was_chosen(self) -> None:
        assert plan(model()).dtype == "float32"
        able = Device("cpu", 128 * GB, 100 * GB, "main memory", flags=frozenset({"amx_bf16"}))
        assert plan(model(), able).dtype == "bfloat16"
        assert plan(model()).shares["cpu"].weights_bytes == pytest.approx(32.2 * GB, rel=0.01)
        assert plan(model(), dtype="bfloat16").shares["cpu"].weights_bytes == pytest.approx(16.1 * GB, rel=0.01)
        assert plan(model()).shares["cpu"].overhead_bytes > RUNTIME_BYTES


class TestPlaces:
    def test_the_gpu_with_the_most_free_memory(self) -> None:
        assert plan(model(), cpu(), gpu(0, 40), gpu(1, 60)).device == "cuda:1"

    def test_rather_a_gpu_that_idle_models_leave_than_two_at_once_or_the_cpu(self) -> None:
        assert plan(model(), cpu(), gpu(0, 15), gpu(1, 10, reclaimable_gb=20)).device == "cuda:1"

    def test_several_gpus_together_where_none_has_room(self) -> None:
        decided = plan(model(gb=28), cpu(), gpu(0, 24), gpu(1, 22))
        assert decided.device == "balanced"
        assert set(decided.shares) == {"cuda:0", "cuda:1", "cpu"}
        assert decided.shares["cuda:0"].weights_bytes == pytest.approx(15.05 * GB, rel=0.01)
        assert (decided.parallel_requests, decided.kv_tokens) == (1, 8192)

    def test_the_cpu_where_no_gpu_has_room_and_that_is_said(self) -> None:
        decided = plan(model(), cpu(), gpu(0, 8))
        assert decided.device == "cpu"
        assert decided.notes[-1] == "No GPU has room for it, so it runs on the CPU, which is slow."

    def test_a_gpu_needs_the_host_too(self) -> None:
        assert not plan(model(), cpu(0.5), gpu(0, 80)).fits

    @pytest.mark.parametrize(
        ("word", "expected"), [("cuda:0", "cuda:0"), ("cuda", "cuda:1"), ("cpu", "cpu"), ("balanced", "balanced")]
    )
    def test_a_chosen_device_is_kept(self, word: str, expected: str) -> None:
        assert plan(model(), cpu(), gpu(0, 40), gpu(1, 60), device=word).device == expected

    def test_balanced_over_one_gpu_is_that_gpu(self) -> None:
        assert plan(model(), cpu(), gpu(0, 40), device="balanced").device == "cuda:0"

    @pytest.mark.parametrize(
        ("choices", "sentence"),
        [
            (
                {"device": "cuda:3"},
                "The device cuda:3 is not there: this machine has cpu (main memory), cuda:0 (A100).",
            ),
            ({"device": "cpu", "quantization": "4bit"}, "Weights are quantized to 4bit on a GPU only"),
        ],
    )
    def test_what_this_machine_cannot_do_is_refused_with_what_it_has(self, choices: Any, sentence: str) -> None:
        with pytest.raises(UnservableChoice) as caught:
            plan(model(), cpu(), gpu(0, 40), **choices)
        assert sentence in caught.value.message

    @pytest.mark.parametrize("choices", [{"device": "cuda"}, {"device": "balanced"}, {"quantization": "8bit"}])
    def test_a_machine_without_gpus_says_so(self, choices: Any) -> None:
        with pytest.raises(UnservableChoice, match=r"this machine has cpu \(main memory\)\."):
            plan(model(), cpu(), **choices)


class TestShortMemory:
    def test_the_cache_is_made_smaller_before_anybody_has_to_leave(self) -> None:
        decided = plan(model(), cpu(), gpu(0, 19, reclaimable_gb=40))
        assert 8192 <= decided.kv_tokens < 16384
        assert decided.needs["cuda:0"] <= 19 * GB
        assert decided.notes == (
            f"Memory is short: all requests together have {decided.kv_tokens} tokens instead of 16384.",
        )

    def test_others_leave_for_one_whole_context_and_no_more(self) -> None:
        decided = plan(model(), cpu(), gpu(0, 10, reclaimable_gb=40))
        assert decided.fits
        assert (decided.context_length, decided.kv_tokens) == (8192, 8192)

    def test_the_context_is_halved_where_nobody_chose_it(self) -> None:
        decided = plan(model(), gpu(0, 18.3), cpu(2))
        assert (decided.context_length, decided.device) == (2048, "cuda:0")
        assert decided.notes[0] == "Memory is short: the context has 2048 tokens instead of 8192."

    def test_a_chosen_context_is_not_touched_and_the_ways_out_are_said(self) -> None:
        decided = plan(model(), cpu(20), gpu(0, 20.5), context_length=65536, device="cuda:0")
        assert not decided.fits
        assert decided.context_length == 65536
        shorter, quantized = decided.ways_out
        assert shorter.startswith("With a context of 8192 tokens it needs 20.2 GB")
        assert quantized.startswith("With quantization to 4bit it needs 1")
        assert quantized.endswith("GB on cuda:0 and 1.2 GB on cpu.")

    def test_another_device_is_a_way_out(self) -> None:
        decided = plan(model(), cpu(), gpu(0, 8), device="cuda:0")
        assert decided.ways_out[-1].startswith("On the device cpu it needs")

    def test_what_fits_nowhere_has_no_ways_out(self) -> None:
        decided = plan(model(gb=900), cpu(), gpu(0, 80))
        assert (decided.fits, decided.ways_out, decided.context_length) == (False, (), 2048)


class TestKinds:
    def test_quantization_shrinks_linear_weights_and_nothing_else(self) -> None:
        embeddings = 2 * 128256 * 4096 * 2
        for word, share in {"8bit": 1 / 2, "4bit": 0.5625 / 2}.items():
            decided = plan(model(), cpu(), gpu(0, 80), quantization=word)
            assert decided.quantization == word
            assert decided.shares["cuda:0"].weights_bytes == pytest.approx(embeddings + 14 * GB * share, rel=1e-6)

    def test_a_model_that_is_quantized_already_stays_as_it_is(self) -> None:
        config = {"quantization_config": {"quant_method": "gptq"}}
        decided = plan(model(**config), cpu(), gpu(0, 80), quantization="4bit")
        assert decided.quantization == "none"
        assert decided.notes == ("Its weights are quantized already (gptq), and stay so.",)

    def test_a_cache_that_cannot_be_shared_serves_one_request_at_a_time(self) -> None:
        latent = model(kv_lora_rank=512, qk_rope_head_dim=64)
        decided = plan(latent, cpu(), gpu(0, 80), parallel_requests=4)
        assert (decided.parallel_requests, decided.kv_tokens) == (1, 8192)
        assert "It answers one request after the other" in decided.notes[0]
        assert decided.shares["cuda:0"].kv_bytes == 576 * 2 * 8192 * (32 + 1)

    def test_layers_that_look_back_a_window_make_a_context_cheaper(self) -> None:
        mixed = model(layer_types=(["sliding_attention"] * 3 + ["full_attention"]) * 8, sliding_window=1024)
        pages = {"full": 8 * 8192 / 256, "sliding": 24 * 1024 / 256, "padding": 2 * 24}
        decided = plan(mixed, cpu(), gpu(0, 10, reclaimable_gb=40))
        assert decided.shares["cuda:0"].kv_bytes == pytest.approx(sum(pages.values()) * 256 * 2 * 8 * 128 * 2, rel=0.1)
        assert decided.kv_tokens < decided.context_length == 8192
        assert plan(model(sliding_window=1024), cpu(), gpu(0, 80), parallel_requests=1).kv_tokens == 8192

    def test_layers_that_keep_a_state_need_no_cache_for_each_token(self) -> None:
        hybrid = model(full_attention_interval=4)
        kv_bytes = plan(hybrid, cpu(), gpu(0, 80)).shares["cuda:0"].kv_bytes
        assert 8192 * KV_TOKEN_BYTES / 4 < kv_bytes < 8192 * KV_TOKEN_BYTES / 2

    def test_a_large_vocabulary_costs_main_memory_wherever_the_model_is(self) -> None:
        large = replace(model(), tokenizer_bytes=10**7)
        for devices, name in (([cpu()], "cpu"), ([gpu(0, 80), cpu()], "cpu")):
            more = plan(large, *devices).needs[name] - plan(model(), *devices).needs[name]
            assert more == 12 * 10**7

    def test_assumptions_are_among_the_notes(self) -> None:
        assert "vocab_size" in plan(model(vocab_size="many"), gpu(0, 80), cpu()).notes[0]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    free=st.lists(st.floats(0, 200), min_size=1, max_size=3),
    reclaimable=st.floats(0, 50),
    context=st.none() | st.integers(1, 200_000),
    parallel=st.none() | st.integers(1, 64),
)
def test_a_plan_that_fits_does_and_holds_a_whole_context(free, reclaimable, context, parallel) -> None:
    gpus = [gpu(number, size, reclaimable_gb=reclaimable) for number, size in enumerate(free[1:])]
    devices = [cpu(free[0]), *gpus]
    decided = plan(model(), *devices, context_length=context, parallel_requests=parallel)
    room = {device.name: device.free_bytes + device.reclaimable_bytes for device in devices}
    fits = all(needed <= room[name] for name, needed in decided.needs.items())
    assert decided.fits == fits
    assert decided.kv_tokens >= decided.context_length >= min(context or 2048, 2048)  # all layers see everything
    assert decided.ways_out == () or not decided.fits
