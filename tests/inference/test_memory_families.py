"""What a plan says of known families on a GPU, held against figures that their makers or the field published.

None of this was run on a GPU: it compares numbers with numbers. GB is 10**9 and GiB 2**30 bytes; makers mix them up, so
each figure has its unit.
"""

import pytest

from inference.memory import Choices, Device, MemoryPlan, plan_memory
from tests.inference.families import family

GB, GIB, MIB, KB = 10**9, 2**30, 2**20, 10**3

LLAMA_31 = "https://huggingface.co/blog/llama31#inference-memory-requirements"
FALCON = "https://huggingface.co/blog/falcon"
GEMMA_2 = "https://huggingface.co/blog/gemma2"
MIXTRAL = "https://huggingface.co/blog/mixtral"
SMOLLM2 = "https://huggingface.co/HuggingFaceTB/SmolLM2-1.7B (get_memory_footprint, bfloat16)"
QWEN = "https://github.com/QwenLM/Qwen (A100, bitsandbytes; the GPU's memory after loading, and at its peak)"
QWEN_25 = "https://qwen.readthedocs.io, Qwen2.5 speed benchmark (transformers, BF16, 1 token in, 2048 out)"
QWEN_3 = "https://qwen.readthedocs.io, Qwen3 speed benchmark (transformers, BF16, 2048 tokens out)"
DEEPSEEK = "Insights into DeepSeek-V3 (ISCA 2025), table 1: KV cache per token, BF16"
DEEPSEEK_LITE = "https://huggingface.co/deepseek-ai/DeepSeek-V2-Lite: 15.7B parameters, on one GPU of 40 GB"
GPT_OSS = "https://openai.com/index/gpt-oss-model-card: the checkpoint of gpt-oss-20b has 12.8 GiB"


def plan(name: str, *, tokens: int = 8192, quantization: str = "") -> MemoryPlan:
    devices = [Device("cpu", 500 * GB, 500 * GB, "main memory"), Device("cuda:0", 999 * GB, 999 * GB, "a large one")]
    choices = Choices(context_length=tokens, parallel_requests=1, quantization=quantization, device="cuda:0")
    return plan_memory(family(name), choices=choices, devices=devices)


@pytest.mark.parametrize(
    ("name", "published", "tolerance", "source"),
    [
        ("Llama-3.1-8B", 16 * GB, 0.01, LLAMA_31),
        ("Llama-3.1-70B", 140 * GB, 0.01, LLAMA_31),
        ("SmolLM2-1.7B", 3422.76e6, 0.001, SMOLLM2),
        ("Gemma-2-9B", 18 * GB, 0.03, GEMMA_2),
        ("Falcon-7B", 15 * GB, 0.05, FALCON),
        ("Mixtral-8x7B", 90 * GB, 0.05, MIXTRAL),
        ("DeepSeek-V2-Lite", 2 * 15.7 * GB, 0.01, DEEPSEEK_LITE),
        ("Qwen-7B", 16.2 * GB, 0.06, QWEN),
    ],
)
def test_weights_in_16_bits(name: str, published: float, tolerance: float, source: str) -> None:
    assert plan(name).shares["cuda:0"].weights_bytes == pytest.approx(published, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "quantization", "published", "tolerance", "source"),
    [
        ("Qwen-7B", "8bit", 10.1 * GB, 0.07, QWEN),
        ("Qwen-7B", "4bit", 7.4 * GB, 0.12, QWEN),
    ],
)
def test_weights_that_bitsandbytes_quantizes_with_the_room_that_cuda_takes(
    name: str, quantization: str, published: float, tolerance: float, source: str
) -> None:
    share = plan(name, quantization=quantization).shares["cuda:0"]
    assert share.weights_bytes + CUDA == pytest.approx(published, rel=tolerance)


CUDA = 0.5 * GB


@pytest.mark.parametrize(
    ("name", "tokens", "published", "source"),
    [
        ("Llama-3.1-8B", 16_000, 1.95 * GIB, LLAMA_31),
        ("Llama-3.1-8B", 128_000, 15.62 * GIB, LLAMA_31),
        ("Llama-3.1-70B", 128_000, 39.06 * GIB, LLAMA_31),
        ("LLaMA-7B", 2048, 1100e6, FALCON),
        ("Falcon-7B", 2048, 20e6, FALCON),
        ("Qwen2.5-72B", 100_000, 327.680 * KB * 100_000, DEEPSEEK),
        ("DeepSeek-V3", 100_000, 70.272 * KB * 100_000, DEEPSEEK),
    ],
)
def test_the_cache_for_so_many_tokens(name: str, tokens: int, published: float, source: str) -> None:
    """Within 5 %, or two pages: so much is set aside for padding, beside whole pages."""
    kv_bytes = plan(name, tokens=tokens).shares["cuda:0"].kv_bytes
    page = 256 / tokens * kv_bytes
    assert kv_bytes == pytest.approx(published, abs=0.05 * published + 2 * page)


@pytest.mark.parametrize(
    ("name", "tokens", "published", "source"),
    [
        ("Qwen2.5-7B", 2049, 14.38 * GIB, QWEN_25),
        ("Qwen3-30B-A3B", 2049, 58_462 * MIB, QWEN_3),
        ("Qwen3-30B-A3B", 6144 + 2048, 59_037 * MIB, QWEN_3),
        ("Qwen3-30B-A3B", 30_720 + 2048, 61_342 * MIB, QWEN_3),
    ],
)
def test_weights_and_cache_as_their_makers_measured_them(name: str, tokens: int, published: float, source: str) -> None:
    share = plan(name, tokens=tokens).shares["cuda:0"]
    assert share.weights_bytes + share.kv_bytes == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(
    ("tokens", "published", "source"),
    [(2048, 16.99 * GB, QWEN), (8192, 23.52 * GB, QWEN)],
)
def test_the_whole_of_a_gpu_that_runs_one_request(tokens: int, published: float, source: str) -> None:
    """Ours has room for steps of 2048 tokens too. Theirs keeps the cache of 8192 tokens twice, while it grows."""
    assert plan("Qwen-7B", tokens=tokens).needs["cuda:0"] == pytest.approx(published, rel=0.12)


def test_a_checkpoint_in_4_bit_floats_is_as_large_as_published_and_is_expanded_when_it_is_loaded() -> None:
    facts = family("gpt-oss-20b")
    assert sum(facts.bytes_by_dtype.values()) == pytest.approx(12.8 * GIB, rel=0.01)
    assert plan("gpt-oss-20b").shares["cuda:0"].weights_bytes == pytest.approx(2 * 20.9 * GB, rel=0.01)


def test_experts_stay_as_they_are_when_linear_weights_are_quantized() -> None:
    """transformers keeps the experts of a layer in one tensor, which bitsandbytes does not see."""
    assert plan("Mixtral-8x7B", quantization="4bit").shares["cuda:0"].weights_bytes > 89 * GB
