"""A Hub cache -> a frozen report. Reads names and sizes, and no file's content but small JSON files.

A broken repo is a value in the report (`problems`), never an exception: one bad folder must not hide the rest.
Only the standard library is imported: the scan runs in a child process that starts in a blink (see probe.py).
"""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cachemgr.layout import COMMIT, parse_repo_folder

_CONFIG_LIMIT_BYTES = 4 * 10**6
_INDEX_LIMIT_BYTES = 64 * 10**6  # a model of 100,000 tensors has an index of 17 MB
_CONFIG_KEYS = ("model_type", "architectures", "max_position_embeddings", "torch_dtype", "dtype", "auto_map")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")

Inode = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RevisionReport:
    """One snapshot. `format` is the best weights format in it: safetensors, gguf, pickle or "" for none."""

    commit: str
    refs: tuple[str, ...]
    file_count: int
    size_bytes: int
    format: str
    missing: tuple[str, ...]  # links that lead nowhere, and shards that the index names but nobody fetched
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def is_loadable(self) -> bool:
        return self.format == "safetensors" and bool(self.config) and not self.missing


@dataclass(frozen=True, slots=True)
class RepoReport:
    repo_type: str
    repo_id: str
    folder: str
    size_bytes: int  # each inode once
    partial_bytes: int  # of downloads that did not finish
    revisions: tuple[RevisionReport, ...]
    problems: tuple[str, ...]

    @property
    def current_revision(self) -> RevisionReport | None:
        """What `main` points to, else any loadable snapshot, else any."""
        by_worth = sorted(self.revisions, key=lambda each: ("main" in each.refs, each.is_loadable))
        return by_worth[-1] if by_worth else None


@dataclass(frozen=True, slots=True)
class CacheReport:
    """`used_bytes` is everything below the path, each inode once, foreign files and our own included."""

    used_bytes: int
    repos: tuple[RepoReport, ...]
    problems: tuple[str, ...]


def scan_cache(path: str) -> CacheReport:
    seen: dict[Inode, int] = {}
    repos: list[RepoReport] = []
    problems: list[str] = []
    with os.scandir(path) as entries:
        in_order = sorted(entries, key=lambda each: each.name)
    for entry in in_order:
        known = parse_repo_folder(entry.name)
        try:
            if known and entry.is_dir(follow_symlinks=False):
                inodes: dict[Inode, int] = {}
                repos.append(_scan_repo(entry.path, repo_type=known[0], repo_id=known[1], inodes=inodes))
                seen |= inodes
            else:
                seen |= _sizes_below(entry, problems)
        except OSError as error:
            problems.append(f"{_shown(entry.name)}: {error.strerror}")
    return CacheReport(used_bytes=sum(seen.values()), repos=tuple(repos), problems=tuple(problems))


def scan_one_repo(path: str, *, folder: str) -> CacheReport:
    """The report of one repo folder of a cache; without repos where it is not there."""
    known = parse_repo_folder(folder)
    repo_path = os.path.join(path, folder)
    if known is None or not _is_folder(repo_path):
        return CacheReport(used_bytes=0, repos=(), problems=())
    repo = _scan_repo(repo_path, repo_type=known[0], repo_id=known[1], inodes={})
    return CacheReport(used_bytes=repo.size_bytes, repos=(repo,), problems=())


def report_from_json(data: dict[str, Any]) -> CacheReport:
    """The inverse of `dataclasses.asdict`, for a report that came from the child process."""
    return CacheReport(
        used_bytes=data["used_bytes"],
        repos=tuple(map(_repo_from_json, data["repos"])),
        problems=tuple(data["problems"]),
    )


def _repo_from_json(data: dict[str, Any]) -> RepoReport:
    revisions = tuple(
        RevisionReport(**{**each, "refs": tuple(each["refs"]), "missing": tuple(each["missing"])})
        for each in data["revisions"]
    )
    return RepoReport(**{**data, "revisions": revisions, "problems": tuple(data["problems"])})


def _scan_repo(path: str, *, repo_type: str, repo_id: str, inodes: dict[Inode, int]) -> RepoReport:
    problems: list[str] = []
    partial_bytes = 0
    for file in _files_below(path, problems):
        try:
            status = file.stat()  # follows a link into the Hub's shared blob store, where the bytes are
        except OSError:
            continue  # a broken link: the snapshot that needs it reports it
        inodes[status.st_dev, status.st_ino] = status.st_size
        if file.name.endswith(".incomplete"):
            partial_bytes += status.st_size
    refs = _read_refs(os.path.join(path, "refs"), problems)
    revisions = tuple(_scan_revisions(os.path.join(path, "snapshots"), refs=refs, problems=problems))
    return RepoReport(
        repo_type=repo_type,
        repo_id=repo_id,
        folder=os.path.basename(path),
        size_bytes=sum(inodes.values()),
        partial_bytes=partial_bytes,
        revisions=revisions,
        problems=tuple(dict.fromkeys(problems)),
    )


def _scan_revisions(path: str, *, refs: dict[str, str], problems: list[str]) -> Iterator[RevisionReport]:
    if not _is_folder(path):
        problems.append("no snapshots")
        return
    for entry in sorted(_entries(path, problems), key=lambda each: each.name):
        if entry.is_dir(follow_symlinks=False) and COMMIT.fullmatch(entry.name):
            names = tuple(sorted(name for name, commit in refs.items() if commit == entry.name))
            yield _scan_revision(entry.path, commit=entry.name, refs=names)
        else:
            problems.append(f"snapshots/{_shown(entry.name)} is not a revision")


def _scan_revision(path: str, *, commit: str, refs: tuple[str, ...]) -> RevisionReport:
    sizes: dict[Inode, int] = {}
    names: set[str] = set()
    missing: list[str] = []
    for file in _files_below(path, missing):
        name = os.path.relpath(file.path, path)
        status = _regular_file(file)
        if status is None:
            missing.append(name)
            continue
        names.add(name)
        sizes[status.st_dev, status.st_ino] = status.st_size
    missing += sorted(_shards_named_by_index(path, names) - names - set(missing))
    return RevisionReport(
        commit=commit,
        refs=refs,
        file_count=len(names),
        size_bytes=sum(sizes.values()),
        format=_weights_format(names),
        missing=tuple(map(_shown, missing)),
        config=_read_config(path) if "config.json" in names else {},
    )


def _weights_format(names: set[str]) -> str:
    if any(name.endswith(".safetensors") for name in names):
        return "safetensors"
    if any(name.endswith(".gguf") for name in names):
        return "gguf"
    return "pickle" if any(name.endswith(_PICKLES) for name in names) else ""


def _shards_named_by_index(path: str, names: set[str]) -> set[str]:
    if "model.safetensors.index.json" not in names:
        return set()
    index = _read_json(os.path.join(path, "model.safetensors.index.json"), limit_bytes=_INDEX_LIMIT_BYTES)
    weight_map = index.get("weight_map")
    return {str(name) for name in weight_map.values()} if isinstance(weight_map, dict) else set()


def _read_config(path: str) -> dict[str, Any]:
    config = _read_json(os.path.join(path, "config.json"), limit_bytes=_CONFIG_LIMIT_BYTES)
    return {key: config[key] for key in _CONFIG_KEYS if key in config and _is_storable(config[key])}


def _is_storable(value: Any) -> bool:
    """False for what no database takes (NaN, NUL, half a character) and for what no real config has (depth, bulk)."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, RecursionError):
        return False
    return len(text) <= 10_000 and text.count("[") + text.count("{") <= 50 and "\\u0000" not in text


def _read_json(path: str, *, limit_bytes: int) -> dict[str, Any]:
    """The object in a small JSON file; {} for whatever is not one."""
    try:
        if os.path.getsize(path) > limit_bytes:
            return {}
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _read_refs(path: str, problems: list[str]) -> dict[str, str]:
    """{"main": commit}; names may have slashes, as in `refs/pr/1`."""
    refs: dict[str, str] = {}
    if not _is_folder(path):
        return refs
    for file in _files_below(path, problems):
        name = os.path.relpath(file.path, path)
        if _regular_file(file) is None:
            problems.append(f"refs/{_shown(name)} is not a file")
            continue
        try:
            with open(file.path, encoding="ascii") as opened:
                refs[_shown(name)] = opened.read(64).strip()
        except (OSError, ValueError) as error:
            problems.append(f"refs/{_shown(name)}: {error}")
    return refs


def _files_below(path: str, problems: list[str]) -> Iterator[os.DirEntry[str]]:
    """Files and links to files below the path, at any depth; a linked folder is not entered."""
    folders = [path]
    while folders:
        for entry in _entries(folders.pop(), problems):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif not (entry.is_symlink() and os.path.isdir(entry.path)):
                yield entry


def _entries(path: str, problems: list[str]) -> list[os.DirEntry[str]]:
    """What lies in a folder. One that cannot be read is a problem, and hides nothing beside it."""
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        problems.append(f"{_shown(os.path.basename(path))} cannot be read: {error.strerror}")
        return []


def _is_folder(path: str) -> bool:
    """Never for a link to one: what lies elsewhere is not this cache's."""
    return os.path.isdir(path) and not os.path.islink(path)


def _regular_file(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for a broken link, and for a pipe or a device, which would never end."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _shown(name: str) -> str:
    """A name from a disk as text that JSON, a database and a terminal take: names are bytes, and not always UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _sizes_below(entry: os.DirEntry[str], problems: list[str]) -> dict[Inode, int]:
    """Sizes by inode of what is not a repo: foreign files, locks, the shared blob store, our own folder."""
    if entry.is_symlink():
        return {}
    files = _files_below(entry.path, problems) if entry.is_dir() else iter([entry])
    statuses = (file.stat(follow_symlinks=False) for file in files)
    return {(status.st_dev, status.st_ino): status.st_size for status in statuses}
