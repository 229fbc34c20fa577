"""Which kinds of models are batched, and that what they say in a batch is what `generate` says."""

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: TID253
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: TID253
from transformers.generation.continuous_batching.cache import PagedAttentionCache  # noqa: TID253

from inference.engine import batchable
from inference.engine.attention import PagedAttention
from inference.engine.backend import EngineSettings
from inference.engine.batchable import PROVEN_KINDS, Trial, Unbatchable
from inference.engine.loading import load_model
from inference.engine.runner import Runner
from inference.engine.runners import start_runner
from tests.inference.engine.conftest import DEVICE, only_on_cpu
from tests.inference.engine.inside import Told, load, make_prompt, make_runner, run, run_plainly

SHAPE: dict[str, Any] = {
    "vocab_size": 600,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
# In a batch by way of transformers' own attention: they see a window, or cap their scores.
OTHER_KINDS: dict[str, dict[str, Any]] = {
    "gemma3_text": {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "starcoder2": {},
    "cohere": {},
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 32},
}


def make_model(model_folder: Path, target: Path, *, kind: str, **changes: Any) -> Path:
    """Random weights, and the tokenizer of the tiny model."""
    shutil.copytree(model_folder, target, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = AutoConfig.for_model(kind, **(SHAPE | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(target)
    return target


def change_generation(folder: Path, **changes: Any) -> Path:
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def start(folder: Path, **settings: Any) -> Runner:
    chosen = EngineSettings(str(folder), "tiny", device=DEVICE, kv_tokens=2048, **settings)
    return start_runner(load_model(chosen), settings=chosen)


def expect_the_same(folder: Path, runner: Runner) -> None:
    asked = [Told(make_prompt(number, length=length), tokens=20) for number, length in enumerate((3, 90, 200, 31))]
    run(runner, asked)
    loaded = load(folder)
    for each in asked:
        assert each.ids == run_plainly(loaded, each.prompt_ids)


@pytest.mark.parametrize("kind", sorted(PROVEN_KINDS))
def test_a_proven_kind_says_in_a_batch_what_generate_says(model_folder: Path, tmp_path: Path, kind: str) -> None:
    folder = make_model(model_folder, tmp_path / kind, kind=kind)
    runner = start(folder)
    assert (runner.facts.backend, runner.facts.backend_reason) == ("batching", "")
    expect_the_same(folder, runner)


@pytest.mark.parametrize("kind", sorted(OTHER_KINDS))
def test_another_kind_is_batched_if_a_trial_gives_what_a_plain_pass_gives(
    model_folder: Path, tmp_path: Path, kind: str
) -> None:
    folder = make_model(model_folder, tmp_path / kind, kind=kind, **OTHER_KINDS[kind])
    runner = start(folder)
    assert runner.facts.backend == "batching", runner.facts.backend_reason
    expect_the_same(folder, runner)


LONG_ROPE: dict[str, Any] = {
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
    },
    "original_max_position_embeddings": 256,
}


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("gptj", {"rotary_dim": 16}, "transformers cannot batch it"),
        ("mamba", {}, "linear_attention"),
        ("bloom", {"n_layer": 2, "n_head": 4}, "cannot be exchanged"),
        ("qwen3_next", {"layer_types": ["linear_attention", "full_attention"] * 2}, "linear_attention"),
        ("phi3", LONG_ROPE, "with a context length of 256 it could be batched"),
    ],
)
def test_what_cannot_be_batched_is_generated_one_by_one(
    model_folder: Path, tmp_path: Path, kind: str, changes: dict[str, Any], reason: str
) -> None:
    folder = make_model(model_folder, tmp_path / kind, kind=kind, **changes)
    runner = start(folder)
    assert runner.facts.backend == "generate"
    assert reason in runner.facts.backend_reason
    expect_the_same(folder, runner)


def test_positions_that_never_grow_too_long_are_batched(model_folder: Path, tmp_path: Path) -> None:
    folder = make_model(model_folder, tmp_path / "phi3", kind="phi3", **LONG_ROPE)
    assert start(folder, context_length=256).facts.backend == "batching"


@pytest.mark.parametrize(
    "changes", [{"no_repeat_ngram_size": 3}, {"bad_words_ids": [[5, 6]]}, {"begin_suppress_tokens": [5]}]
)
def test_what_only_generate_knows_is_generated(copied_folder: Path, changes: dict[str, Any]) -> None:
    runner = start(change_generation(copied_folder, **changes))
    assert runner.facts.backend == "generate"
    assert next(iter(changes)) in runner.facts.backend_reason


def test_what_is_never_to_be_said_is_not_said_in_either_way(copied_folder: Path) -> None:
    prompt = make_prompt(1, length=9)
    first = run_plainly(load(copied_folder), prompt, tokens=10)
    folder = change_generation(copied_folder, suppress_tokens=[first[0]], bad_words_ids=[[first[1]]])
    batched, plain = Told(prompt, tokens=10), Told(prompt, tokens=10)
    for runner, told in ((start(folder), batched), (start(folder, backend="generate"), plain)):
        run(runner, [told])
    assert batched.ids == plain.ids
    assert not {first[0], first[1]} & set(batched.ids)


def test_a_trial_that_gives_other_numbers_is_a_reason(model_folder: Path) -> None:
    runner = make_runner(model_folder)
    trial = Trial(load(model_folder))
    trial.check(runner.batches)
    with torch.inference_mode():
        runner.batches._model.get_input_embeddings().weight.mul_(-1)
    trial = Trial(load(model_folder))
    with pytest.raises(Unbatchable, match="off those of a plain pass"):
        trial.check(runner.batches)


def test_a_batch_that_failed_leaves_no_cache_behind(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batchable, "_TOLERANCE", 0.0)
    folder = make_model(model_folder, tmp_path / "starcoder2", kind="starcoder2")
    gc.collect()
    before = count_caches()
    runner = start(folder)
    assert "off those of a plain pass" in runner.facts.backend_reason
    assert count_caches() == before
    expect_the_same(folder, runner)


def count_caches() -> int:
    """Also those that nobody needs, but nobody has thrown away."""
    return sum(type(each) in (PagedAttentionCache, PagedAttention) for each in gc.get_objects())


@only_on_cpu
def test_a_runner_that_nobody_needs_takes_its_cache_along(model_folder: Path) -> None:
    gc.collect()
    before = count_caches()
    runner = make_runner(model_folder)
    assert count_caches() == before + 2
    del runner
    gc.collect()
    assert count_caches() == before


def test_generate_when_it_is_asked_for(model_folder: Path) -> None:
    facts = start(model_folder, backend="generate").facts
    assert (facts.backend, facts.parallel_requests) == ("generate", 1)
    assert "--backend generate" in facts.backend_reason
