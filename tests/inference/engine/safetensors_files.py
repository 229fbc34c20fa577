"""Files of weights without a model."""

import json
from collections.abc import Mapping
from pathlib import Path


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, int]]) -> None:
    """`tensors`: dtype and bytes for each name."""
    header, end = {}, 0
    for name, (dtype, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [end, end + size]}
        end += size
    content = json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(end))
