"""Looks at a model folder before torch is imported: what cannot load is refused in milliseconds, with the reason."""

import json
from pathlib import Path

from inference.engine.backend import LoadError

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
    if not any(folder.glob("*.safetensors")):
        raise LoadError(_explain_missing_weights(folder))
    for path in sorted(folder.glob("*.safetensors")):
        _check_weights(path)


def _check_config(path: Path) -> None:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise LoadError(f"{path} is missing, so nobody knows what kind of model this is.") from error
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise LoadError(f"{path} holds no JSON object.")


def _check_weights(path: Path) -> None:
    """A safetensors file says in its header how long it is: one that was cut off in a copy is found out at once."""
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length <= size_bytes - 8 else None
        data_bytes = max(
            (tensor["data_offsets"][1] for name, tensor in (header or {}).items() if name[:2] != "__"), default=0
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise LoadError(f"{path} is not a readable safetensors file: {error}") from error
    if header is None or size_bytes != 8 + length + data_bytes:
        raise LoadError(f"{path} is damaged: it has {size_bytes} bytes, which is not what its header says.")


def _explain_missing_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        return f"{folder} has its weights as pickle only ({pickles[0]}), which can run code. Get them as safetensors."
    if any(folder.glob("*.gguf")):
        return f"{folder} has its weights as GGUF only, which this engine does not read. Get them as safetensors."
    return f"{folder} has no weights: there is no *.safetensors file in it."
