"""Which files of a repo we take. Pure: names in, names out.

No code, no pickle: what a model needs to be loaded from safetensors, and what its reader wants to know. Of weights that
lie there twice, in one file and in shards or in another precision, only those that the library would load.
"""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable

_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.md", "LICENSE*", "NOTICE*")
_UNWANTED = (
    "original/*",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "gguf/*",
    "consolidated*.safetensors",
    "*.index.json.bak",
)
_BASE, _SHARD, _VARIANT = r"(?P<base>(?:.*/)?[^./]+?)", r"-\d{5}-of-\d{5}", r"(?P<variant>\.\w+)"
_WEIGHTS = re.compile(rf"{_BASE}(?P<shard>{_SHARD})?{_VARIANT}?(?:{_SHARD})?\.safetensors")
_INDEX = re.compile(rf"{_BASE}\.safetensors\.index{_VARIANT}?\.json")

# The order in which transformers looks for weights; a variant is one that has to be asked for by name.
_SINGLE, _SHARDED, _ON_REQUEST = range(3)


def pick(names: Iterable[str]) -> frozenset[str]:
    wanted = [name for name in names if is_wanted(name)]
    return frozenset(wanted) - _nested_weights(wanted) - _second_choices(wanted)


def is_wanted(name: str) -> bool:
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in _UNWANTED):
        return False
    return any(fnmatch.fnmatchcase(name.rpartition("/")[2], pattern) for pattern in _WANTED)


def _nested_weights(names: Iterable[str]) -> set[str]:
    """Where weights lie at the top, those in subfolders are other formats of the same model."""
    weights = [name for name in names if name.endswith(".safetensors")]
    nested = {name for name in weights if "/" in name}
    return nested if len(nested) < len(weights) else set()


def _second_choices(names: Iterable[str]) -> set[str]:
    """Weights beside better ones of the same base name, and the indexes of such."""
    forms: dict[str, dict[str, int]] = defaultdict(dict)
    for name in names:
        if found := _WEIGHTS.fullmatch(name):
            forms[found["base"]][name] = _form(found, is_sharded=bool(found["shard"]))
        elif found := _INDEX.fullmatch(name):
            forms[found["base"]][name] = _form(found, is_sharded=True)
    return {name for family in forms.values() for name, form in family.items() if form > min(family.values())}


def _form(found: re.Match[str], *, is_sharded: bool) -> int:
    if found["variant"]:
        return _ON_REQUEST
    return _SHARDED if is_sharded else _SINGLE
