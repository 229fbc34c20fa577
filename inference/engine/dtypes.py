"""Which dtype a model is loaded with: the stored one where the device computes with it, else float32. Imports no torch.

Measured with torch 2.13 on one core, the time of 256 tokens through matrices of 2048 x 768, relative to float32:
bfloat16 with AMX 0.27, with AVX512-BF16 1.2, with plain AVX-512 3.2, with AVX2 6; float16 with AVX512-FP16 1.0, else 7.
One token at a time costs the same in each, and half the memory counts, so 1.2 is worth it and 3.2 is not.
"""

from pathlib import Path

DTYPES = ("float32", "bfloat16", "float16")

_NATIVE_FLAGS = {"bfloat16": {"amx_bf16", "avx512_bf16", "bf16"}, "float16": {"avx512_fp16"}}
_CPU_INFO = Path("/proc/cpuinfo")


def choose_dtype(wanted: str, *, stored: str, device: str, cpu_flags: frozenset[str]) -> str:
    """`wanted` wins unless it is `auto`. `stored`: what the model's config or weights say. `device`: cpu, cuda, cuda:1,
    balanced. `cpu_flags` as the kernel names them; they count on a CPU only."""
    if wanted != "auto":
        return wanted
    if stored not in DTYPES:
        return "float32"
    is_native = device != "cpu" or stored == "float32" or bool(_NATIVE_FLAGS[stored] & cpu_flags)
    return stored if is_native else "float32"


def read_cpu_flags(path: Path = _CPU_INFO) -> frozenset[str]:
    """What the first CPU can do (`flags` on x86, `Features` on ARM); nothing where the kernel does not tell."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next(
        (frozenset(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))),
        frozenset(),
    )
