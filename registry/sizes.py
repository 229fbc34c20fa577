"""A model's size from its name, by the user's table: 3B is 6 GB, 7B 14 GB; 8-bit halves it, 4-bit quarters it. Pure."""

import re

_BYTES_PER_PARAMETER = 2
_PARAMETERS = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)(b|m)(?![a-z0-9])")
_FOUR_BITS = re.compile(r"4[-_]?bit|int4|[aw]4|q4|nf4|awq|gptq")
_EIGHT_BITS = re.compile(r"8[-_]?bit|int8|w8|q8|fp8")
_SCALE = {"b": 10**9, "m": 10**6}


def guess_size_bytes(repo_id: str) -> int | None:
    """`meta-llama/Meta-Llama-3-8B` -> 16 GB; None where the name has no number of parameters."""
    name = repo_id.rpartition("/")[2].lower()
    found = _PARAMETERS.findall(name)
    if not found:
        return None
    experts, number, scale = found[-1]
    parameters = int(experts or 1) * float(number) * _SCALE[scale]
    return round(parameters * _BYTES_PER_PARAMETER / _divisor(name))


def _divisor(name: str) -> int:
    if _FOUR_BITS.search(name):
        return 4
    return 2 if _EIGHT_BITS.search(name) else 1
