"""The user's table, and what names look like in the wild."""

import pytest

from registry.sizes import guess_size_bytes

GB = 10**9


@pytest.mark.parametrize(
    ("repo_id", "expected_bytes"),
    [
        ("org/model-3B", 6 * GB),
        ("meta-llama/Llama-2-7b-hf", 14 * GB),
        ("org/model-13b", 26 * GB),
        ("org/model-30B", 60 * GB),
        ("org/model-70B-Instruct", 140 * GB),
        ("meta-llama/Meta-Llama-3-8B", 16 * GB),
        ("Qwen/Qwen2.5-0.5B-Instruct", 1 * GB),
        ("HuggingFaceTB/SmolLM-135M", 270 * 10**6),
        ("mistralai/Mixtral-8x7B-v0.1", 112 * GB),
        ("Qwen/Qwen3-30B-A3B", 60 * GB),
        ("org/wav2vec-7b", 14 * GB),
        ("org/w2v-7b", 14 * GB),
        ("org/seq2seq-7b", 14 * GB),
        ("org/llama4-7b", 14 * GB),
        ("org/model-7B-fp16", 14 * GB),
        ("org/model-7B-1.58bit", 14 * GB),
        ("org/model-7B-w4a16", 3.5 * GB),
        ("org/model-7B-4bit", 3.5 * GB),
        ("org/model-7B-bnb-4-bits", 3.5 * GB),
        ("org/model-7B-nf4", 3.5 * GB),
        ("org/model-7B-MXFP4", 3.5 * GB),
        ("org/model-7B-Q4_K_M", 3.5 * GB),
        ("org/Llama-7B-AWQ", 3.5 * GB),
        ("org/Llama-7B-GPTQ", 3.5 * GB),
        ("org/Llama-7B-GPTQ-Int8", 7 * GB),
        ("org/model-7B-int8", 7 * GB),
        ("org/model-7B-FP8", 7 * GB),
        ("org/model-7B-8bit", 7 * GB),
        ("gpt2", None),
        ("org/phi", None),
        ("7B/model", None),
    ],
)
def test_a_size_is_guessed_by_the_users_table(repo_id: str, expected_bytes: float | None) -> None:
    assert guess_size_bytes(repo_id) == expected_bytes
