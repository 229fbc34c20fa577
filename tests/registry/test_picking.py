"""Which files of a repo are taken: what the library would load, once, and nothing that can carry code."""

import pytest

from registry.picking import pick

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("weights", "taken"),
    [
        (["model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"], ["model.safetensors"]),
        ([*SHARDS, INDEX, "pytorch_model-00001-of-00002.bin"], [*SHARDS, INDEX]),
        (["model.safetensors", *SHARDS, INDEX], ["model.safetensors"]),
        ([*SHARDS, INDEX, "consolidated.safetensors", "consolidated.00.pth"], [*SHARDS, INDEX]),
        (["model.safetensors", "model.fp16.safetensors"], ["model.safetensors"]),
        (
            [*SHARDS, INDEX, "model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"],
            [*SHARDS, INDEX],
        ),
        ([*SHARDS, INDEX, "model-00001-of-00001.fp16.safetensors"], [*SHARDS, INDEX]),
        (["model.bf16.safetensors"], ["model.bf16.safetensors"]),
        (["model.safetensors", "adapter_model.safetensors"], ["model.safetensors", "adapter_model.safetensors"]),
        (["model.safetensors", "fp32/model.safetensors", "onnx/model.onnx"], ["model.safetensors"]),
        (["original/model.safetensors", "gguf/model.gguf", "model-q4.gguf"], []),
        (
            ["unet/weights.safetensors", "unet/weights.fp16.safetensors", "vae/weights.fp16.safetensors"],
            ["unet/weights.safetensors", "vae/weights.fp16.safetensors"],
        ),
        (
            ["Qwen2.5-0.5B.safetensors", "Qwen2.5-7B.safetensors"],
            ["Qwen2.5-0.5B.safetensors", "Qwen2.5-7B.safetensors"],
        ),
    ],
)
def test_weights_that_lie_there_twice_are_taken_once(weights: list[str], taken: list[str]) -> None:
    small = ["config.json", "tokenizer.json", "tokenizer.model", "merges.txt", "README.md", "LICENSE"]
    assert pick([*weights, *small]) == {*taken, *small}


@pytest.mark.parametrize(
    "name", ["modeling_x.py", "setup.sh", "weights.pt", "x.pkl", "model.ckpt", ".gitattributes", ""]
)
def test_what_can_carry_code_or_has_no_use_is_left(name: str) -> None:
    assert pick([name, "config.json"]) == {"config.json"}
