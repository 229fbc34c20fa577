"""A model's size from its name, by the user's table: 3B is 6 GB, 7B 14 GB; 8-bit halves it, 4-bit quarters it. Pure."""

import re

_BITS_PER_PARAMETER = 16
_PARAMETERS = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)(b|m)(?![a-z0-9])")
_SCALE = {"b": 10**9, "m": 10**6}

# `4bit`, or a format such as int8, nvfp4, q4_k_m and w4a16. GPTQ and AWQ have four where the name does not say.
_BITS = re.compile(r"(?<![\d.])([2-8])[-_]?bits?(?![a-z])|(?<![a-z])(?:u?int|(?:mx|nv)?fp|nf|i?q|w)([2-8])(?![0-9b-z])")
_FOUR_BIT_METHODS = re.compile(r"(?<![a-z])(awq|gptq)(?![a-z])")


def guess_size_bytes(repo_id: str) -> int | None:
    """`meta-llama/Meta-Llama-3-8B` -> 16 GB; None where the name has no number of parameters."""
    name = repo_id.rpartition("/")[2].lower()
    found = _PARAMETERS.findall(name)
    if not found:
        return None
    experts, number, scale = found[-1]
    parameters = int(experts or 1) * float(number) * _SCALE[scale]
    return round(parameters * _bits_per_parameter(name) / 8)


def _bits_per_parameter(name: str) -> int:
    if found := _BITS.search(name):
        return int(next(filter(None, found.groups())))
    return 4 if _FOUR_BIT_METHODS.search(name) else _BITS_PER_PARAMETER
