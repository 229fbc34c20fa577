"""A snapshot -> a RevisionReport: its weights, the shards that nobody fetched, and a few words of its config."""

import json
import os
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

from cachemgr.report import RevisionReport
from cachemgr.scan.place import shown
from cachemgr.scan.snapshots import OWN_BLOB, Contents, Snapshot
from cachemgr.scan.tally import Tally

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_CONFIG_LIMIT_BYTES = 4 * 10**6
_INDEX_LIMIT_BYTES = 64 * 10**6  # a model of 100,000 tensors has an index of 17 MB
_CONFIG_KEYS = ("model_type", "architectures", "max_position_embeddings", "torch_dtype", "dtype", "auto_map")
_STRICT = json.JSONEncoder(allow_nan=False, ensure_ascii=False)
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(slots=True)
class Reader:
    """Describes the snapshots of one repo, and reads a file once that several of them share."""

    tally: Tally
    contents: Contents
    _configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    _shards: dict[str, frozenset[str]] = field(default_factory=dict)

    def describe(self, snapshot: Snapshot, *, refs: tuple[str, ...]) -> RevisionReport:
        names, sizes = snapshot.names, self.contents.sizes
        linked_bytes = sum(map(sizes.__getitem__, snapshot.keys))
        missing = snapshot.missing + sorted(self._wanted_shards(snapshot) - names - set(snapshot.missing))
        return RevisionReport(
            commit=snapshot.commit,
            refs=refs,
            file_count=len(names),
            size_bytes=linked_bytes + sum(snapshot.copies.values()),
            format=_weights_format(names),
            missing=tuple(map(shown, missing)),
            config=self._config(snapshot),
        )

    def _config(self, snapshot: Snapshot) -> dict[str, Any]:
        key = snapshot.links.get(_CONFIG, snapshot.commit)
        if key not in self._configs:
            config = self._read_json(snapshot, _CONFIG, limit_bytes=_CONFIG_LIMIT_BYTES)
            self._configs[key] = {
                key: config[key] for key in _CONFIG_KEYS if key in config and _is_storable(config[key])
            }
        return self._configs[key]

    def _wanted_shards(self, snapshot: Snapshot) -> frozenset[str]:
        key = snapshot.links.get(_INDEX, snapshot.commit)
        if key not in self._shards:
            index = self._read_json(snapshot, _INDEX, limit_bytes=_INDEX_LIMIT_BYTES)
            weight_map = index.get("weight_map")
            named = weight_map.values() if isinstance(weight_map, dict) else ()
            self._shards[key] = frozenset(map(str, named))
        return self._shards[key]

    def _read_json(self, snapshot: Snapshot, name: str, *, limit_bytes: int) -> dict[str, Any]:
        """The object in a small JSON file of a snapshot; {} for whatever is not one."""
        place = self._place_of(snapshot, name)
        size_bytes = self.contents.sizes.get(snapshot.links.get(name, ""), snapshot.copies.get(name, 0))
        if place is None or not 0 < size_bytes <= limit_bytes:
            return {}
        try:
            data = json.loads(self._read(place, size_bytes).decode())
        except (OSError, ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

    def _place_of(self, snapshot: Snapshot, name: str) -> str | None:
        if name in snapshot.copies:
            return self.tally.below_cache(f"snapshots/{snapshot.commit}/{name}")
        key = snapshot.links.get(name)
        if key is None:
            return None
        return self.contents.places.get(key) or self.tally.below_cache("blobs/" + key.removeprefix(OWN_BLOB))

    def _read(self, path: str, size_bytes: int) -> bytes:
        descriptor = self.tally.place.open_file(path)
        try:
            return os.read(descriptor, size_bytes)
        finally:
            os.close(descriptor)


def _weights_format(names: Set[str]) -> str:
    if any(name.endswith(".safetensors") for name in names):
        return "safetensors"
    if any(name.endswith(".gguf") for name in names):
        return "gguf"
    return "pickle" if any(name.endswith(_PICKLES) for name in names) else ""


def _is_storable(value: Any) -> bool:
    """False for what no database takes (NaN, NUL, half a character) and for what no real config has (depth, bulk)."""
    try:
        text = _STRICT.encode(value)
        text.encode()
    except (ValueError, RecursionError):
        return False
    return len(text) <= 10_000 and text.count("[") + text.count("{") <= 50 and "\\u0000" not in text
