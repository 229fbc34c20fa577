"""Looks at a model folder before torch is imported: what cannot load is refused in milliseconds, with the reason."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cachemgr.digests import hash_like
from inference.engine.backend import LoadError

_TORCH_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_COUNT = re.compile(r"(num|n)_\w*(layer|expert)\w*|(en|de)coder_layers")
_MOST_PARTS = 10_000
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def check_snapshot(model_path: str) -> None:
    """Raises LoadError unless the folder has a readable config and weights as safetensors."""
    folder = Path(model_path)
    if not folder.is_absolute():
        raise LoadError(
            f"--model-path must be an absolute path, not {model_path!r}: a short one could name a model online."
        )
    if not folder.is_dir():
        raise LoadError(f"There is no model folder at {folder}.")
    _check_config(folder / "config.json")
    weights = list_weights(model_path)
    if not weights:
        raise LoadError(_explain_missing_weights(folder))
    for path in weights:
        _check_weights(path)


def check_code(folder: Path, *, allowed: Mapping[str, str]) -> None:
    """Raises LoadError unless all Python files in it are those that were allowed, by their hashes."""
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        content = path.read_bytes()
        hasher = hash_like(allowed.get(name, ""), size_bytes=len(content))
        hasher.update(content)
        if hasher.hexdigest() != allowed.get(name):
            raise LoadError(f"{path} is not the code that was allowed for this model. Download it again, or revoke.")


def list_weights(model_path: str) -> list[Path]:
    return sorted(Path(model_path).glob("*.safetensors"))


def read_stored_dtype(model_path: str) -> str:
    """float32, bfloat16, float16 or another name of torch: what the config says, else most bytes of the weights."""
    config = json.loads((Path(model_path) / "config.json").read_bytes())
    for part in (config, config.get("text_config") or {}):
        if isinstance(name := part.get("dtype") or part.get("torch_dtype"), str):
            return name.removeprefix("torch.")
    sizes: Counter[str] = Counter()
    for path in list_weights(model_path):
        for tensor in _read_header(path)[1].values():
            begin, end = tensor["data_offsets"]
            sizes[tensor["dtype"]] += end - begin
    return _TORCH_NAMES.get(max(sizes, key=lambda name: sizes[name], default=""), "float32")


def _check_config(path: Path) -> None:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise LoadError(f"{path} is missing, so nobody knows what kind of model this is.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise LoadError(f"{path} holds no JSON object.")
    if absurd := next(_find_absurd(config), None):
        raise LoadError(f"{path} says {absurd}: no model has so many, and nobody could wait until they are made.")


def _find_absurd(config: Mapping[str, Any]) -> Iterator[str]:
    """Counts of parts that a library would make one by one."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _find_absurd(value)
        elif isinstance(value, int | float) and _COUNT.fullmatch(name) and not value <= _MOST_PARTS:
            yield f"{name} = {str(value)[:20]}"


def _check_weights(path: Path) -> None:
    """A safetensors file says in its header how long it is: one that was cut off in a copy is found out at once."""
    try:
        size_bytes = path.stat().st_size
        header_bytes, tensors = _read_header(path)
        data_bytes = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise LoadError(f"{path} is not a readable safetensors file: {error}") from error
    if size_bytes != header_bytes + data_bytes:
        raise LoadError(f"{path} is damaged: it has {size_bytes} bytes, which is not what its header says.")


def _read_header(path: Path) -> tuple[int, dict[str, Any]]:
    """How long the header is, its own length included, and what it says of each tensor; no tensors if it is cut off."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > path.stat().st_size - 8:
            return 8 + length, {}
        header = json.loads(stream.read(length))
    return 8 + length, {name: tensor for name, tensor in header.items() if name[:2] != "__"}


def _explain_missing_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        return f"{folder} has its weights as pickle only ({pickles[0]}), which can run code. Get them as safetensors."
    if any(folder.glob("*.gguf")):
        return f"{folder} has its weights as GGUF only, which this engine does not read. Get them as safetensors."
    return f"{folder} has no weights: there is no *.safetensors file in it."
