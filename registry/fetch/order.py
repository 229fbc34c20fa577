"""What the child is asked for: the contents of one commit, and where to put them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachemgr.layout import repo_folder
from registry.errors import HubError

_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")


@dataclass(frozen=True, slots=True)
class Source:
    """A file on one of our drives that has the content: `name` is its path below the cache. `link_only`: no room is
    booked for a copy of it."""

    path: str
    uuid: str
    name: str
    link_only: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that are fetched once, whatever names they have in the snapshot. `digest` names them as in HubFile."""

    digest: str
    size_bytes: int
    names: tuple[str, ...]
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """`ref` may be the commit itself; `rate_limit` is in bytes per second."""

    repo_id: str
    commit: str
    ref: str
    contents: tuple[Content, ...]
    root: Mapping[str, str]
    takes_links: bool
    endpoint: str
    rate_limit: int | None = None

    @property
    def folder(self) -> str:
        return repo_folder(self.repo_id)

    @property
    def size_bytes(self) -> int:
        return sum(content.size_bytes for content in self.contents)


def read_order(data: Mapping[str, Any]) -> Order:
    """From JSON. Raises HubError for a ref that cannot be the name of a file."""
    ref = str(data["ref"])
    if not _REF.fullmatch(ref) or ".." in ref:
        raise HubError(f"The revision {ref[:60]!r} has no usable name.", code="invalid_revision", is_permanent=True)
    return Order(
        repo_id=data["repo_id"],
        commit=data["commit"],
        ref=ref,
        contents=_group(data["files"], sources=data.get("sources", {})),
        root=data["root"],
        takes_links=data["takes_links"],
        endpoint=data["endpoint"],
        rate_limit=data.get("rate_limit"),
    )


def _group(files: list[dict[str, Any]], *, sources: Mapping[str, Mapping[str, Any]]) -> tuple[Content, ...]:
    """Each content once, the largest first: they take longest."""
    names: dict[tuple[str, int], list[str]] = {}
    for file in files:
        names.setdefault((file["digest"], file["size_bytes"]), []).append(file["name"])
    contents = [
        Content(digest, size, tuple(each), Source(**sources[digest]) if digest in sources else None)
        for (digest, size), each in names.items()
    ]
    return tuple(sorted(contents, key=lambda content: -content.size_bytes))
