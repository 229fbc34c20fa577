"""What the headers of a model's safetensors say: how many values of which dtype, and for what. Reads no weights.

A model's files are hostile input: whatever they say, what comes back is sums of sane numbers, or one error.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from homelab.errors import HomelabError

Kind = Literal["embedding", "head", "linear", "experts", "other"]

INDEX = "model.safetensors.index.json"
DTYPE_BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U64": 64,
    "U32": 32,
    "U16": 16,
    "U8": 8,
    "BOOL": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
}
_HEADER_LIMIT_BYTES = 100 * 10**6  # as the library's own
_JSON_LIMIT_BYTES = 64 * 10**6
_NOT_LOADED = ("consolidated", "adapter_", "original")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d{1,6})\.")
_OWN_LAYER = re.compile(r"^model\.layers\.(\d{1,6})\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?:\w*embed\w*|wte|wpe)\.weight$")
_HEAD = re.compile(r"(?:^|\.)lm_head\.weight$|^(?:embed_out|output)\.weight$")
_MOST_DIMENSIONS, _LARGEST_DIMENSION = 8, 2**48
_LONGEST_DTYPE, _MOST_GROUPS = 16, 200


class ModelUnreadable(HomelabError):
    """A model's config or weights are not what they should be: nobody can tell what it needs."""

    code = "model_unreadable"
    status = 500


@dataclass(frozen=True, slots=True)
class Tensor:
    """`dtype` in the words of safetensors: BF16, F32, U8, ..."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int

    @property
    def values(self) -> int:
        return math.prod(self.shape)

    @property
    def kind(self) -> Kind:
        """What quantization does with it: linear weights only, and never the embeddings, the head, or fused experts."""
        if ".experts." in self.name:
            return "experts"
        if _HEAD.search(self.name):
            return "head"
        if _EMBEDDING.search(self.name):
            return "embedding"
        return "linear" if len(self.shape) == 2 else "other"

    @property
    def layer(self) -> int | None:
        found = _LAYER.search(self.name)
        return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """All tensors of one kind and dtype. `values` counts numbers as they are stored: packed ones once."""

    kind: Kind
    dtype: str
    values: int
    size_bytes: int


def read_tensors(folder: Path) -> list[Tensor]:
    """Of all files that a loader would read; a fraction of a second. Raises ModelUnreadable."""
    return [tensor for path in _find_files(folder) for tensor in _read_header(path)]


def group_tensors(tensors: list[Tensor], *, layers: int) -> tuple[TensorGroup, ...]:
    """Leaves out layers behind the last (spare ones for other purposes): a loader does not read them. Raises
    ModelUnreadable for more dtypes than there are."""
    sums: dict[tuple[Kind, str], tuple[int, int]] = {}
    for tensor in tensors:
        spare = _OWN_LAYER.match(tensor.name)
        if spare is None or int(spare[1]) < layers:
            values, size_bytes = sums.get((tensor.kind, tensor.dtype), (0, 0))
            sums[tensor.kind, tensor.dtype] = (values + tensor.values, size_bytes + tensor.size_bytes)
    if len(sums) > _MOST_GROUPS:
        raise ModelUnreadable(f"The weights have {len({dtype for _, dtype in sums})} dtypes: no model has so many.")
    return tuple(TensorGroup(kind, dtype, *sums[kind, dtype]) for kind, dtype in sorted(sums))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a small file. Raises ModelUnreadable."""
    try:
        if path.stat().st_size > _JSON_LIMIT_BYTES:
            raise ModelUnreadable(f"{path} has {path.stat().st_size} bytes, which is too much for what it should be.")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnreadable(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelUnreadable(f"{path} holds no JSON object.")
    return content


def _find_files(folder: Path) -> list[Path]:
    """As transformers looks for them: one file, else those of the index; else whatever there is."""
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    if (folder / INDEX).is_file():
        return _files_of_index(folder / INDEX)
    others = [path for path in sorted(folder.glob("*.safetensors")) if not path.name.startswith(_NOT_LOADED)]
    if not others:
        raise ModelUnreadable(f"{folder} has no weights: there is no *.safetensors file in it.")
    return others


def _files_of_index(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelUnreadable(f"{index} names no files: its weight_map is empty or missing.")
    names = sorted({str(name) for name in weight_map.values()})
    if bad := next((name for name in names if name != Path(name).name), None):
        raise ModelUnreadable(f"{index} names {bad[:80]!r}, which is no file beside it.")
    return [index.parent / name for name in names]


def _read_header(path: Path) -> Iterator[Tensor]:
    """The format: 8 bytes of length, that many of JSON, then the data."""
    try:
        data_bytes, header = _open_header(path)
        for name, entry in header.items():
            if name != "__metadata__":
                yield _read_tensor(name, entry, data_bytes=data_bytes)
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelUnreadable(f"{path} is not a readable safetensors file: {error}") from error


def _open_header(path: Path) -> tuple[int, Mapping[str, Any]]:
    size_bytes = path.stat().st_size
    if not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(size_bytes - 8, _HEADER_LIMIT_BYTES):
            raise ValueError(f"its header should have {length} bytes, and the file has {size_bytes}")
        return size_bytes - 8 - length, json.loads(stream.read(length))


def _read_tensor(name: str, entry: Mapping[str, Any], *, data_bytes: int) -> Tensor:
    shape = tuple(int(size) for size in entry["shape"])
    begin, end = (int(offset) for offset in entry["data_offsets"])
    is_sane = len(shape) <= _MOST_DIMENSIONS and all(0 <= size <= _LARGEST_DIMENSION for size in shape)
    if not is_sane or not 0 <= begin <= end <= data_bytes:
        raise ValueError(f"the tensor {name[:80]!r} does not lie in the file")
    tensor = Tensor(name, str(entry["dtype"])[:_LONGEST_DTYPE], shape, end - begin)
    bits = DTYPE_BITS.get(tensor.dtype)
    if bits is not None and tensor.values * bits != tensor.size_bytes * 8:
        raise ValueError(
            f"the tensor {name[:80]!r} has {tensor.size_bytes} bytes, which is not its shape times its dtype"
        )
    return tensor
