"""Which dtype is fast and right on which device."""

import json
from pathlib import Path

import pytest

from inference.engine.dtypes import choose_dtype, read_cpu_flags
from inference.engine.snapshot import read_stored_dtype
from tests.inference.engine.safetensors_files import write_safetensors

NOTHING: set[str] = set()
ZEN4, SAPPHIRE = {"avx2", "avx512f", "avx512_bf16"}, {"avx512_bf16", "amx_bf16", "avx512_fp16"}


@pytest.mark.parametrize(
    ("stored", "device", "flags", "chosen"),
    [
        ("float32", "cpu", SAPPHIRE, "float32"),
        ("bfloat16", "cpu", NOTHING, "float32"),
        ("bfloat16", "cpu", {"avx2", "avx512f"}, "float32"),
        ("bfloat16", "cpu", ZEN4, "bfloat16"),
        ("bfloat16", "cpu", SAPPHIRE, "bfloat16"),
        ("bfloat16", "cpu", {"asimd", "bf16"}, "bfloat16"),
        ("float16", "cpu", ZEN4, "float32"),
        ("float16", "cpu", SAPPHIRE, "float16"),
        ("float64", "cpu", SAPPHIRE, "float32"),
        ("bfloat16", "cuda", NOTHING, "bfloat16"),
        ("float16", "cuda:1", NOTHING, "float16"),
        ("float32", "balanced", NOTHING, "float32"),
        ("float8_e4m3fn", "cuda", NOTHING, "float32"),
    ],
)
def test_auto_is_the_stored_one_where_the_device_computes_with_it(
    stored: str, device: str, flags: set[str], chosen: str
) -> None:
    assert choose_dtype("auto", stored=stored, device=device, cpu_flags=frozenset(flags)) == chosen


def test_what_was_asked_for_is_used() -> None:
    assert choose_dtype("float16", stored="float32", device="cpu", cpu_flags=frozenset()) == "float16"


def test_flags_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\nbugs\t: spectre\n")
    assert read_cpu_flags(path) == {"fpu", "avx2", "avx512_bf16"}
    path.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert "bf16" in read_cpu_flags(path)
    assert read_cpu_flags(tmp_path / "nowhere") == frozenset()
    assert read_cpu_flags()


def test_the_stored_dtype_is_what_the_config_says_else_what_most_weights_have(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": ("BF16", 100), "b": ("F32", 20)})
    for config, stored in (
        ({"dtype": "float16"}, "float16"),
        ({"torch_dtype": "torch.float32"}, "float32"),
        ({"text_config": {"dtype": "float32"}}, "float32"),
        ({}, "bfloat16"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert read_stored_dtype(str(tmp_path)) == stored
