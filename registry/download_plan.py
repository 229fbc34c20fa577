"""How each content of a model comes to its cache: it lies there, is linked, copied from a drive of ours, or fetched; or
it is replaced, where it lies there and is bad."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cachemgr.digests import is_sha256
from cachemgr.finding import Lying
from cachemgr.models import Cache
from cachemgr.report import FileReport
from registry.hub import HubFile, HubSnapshot
from registry.placing import Need, missing_contents

Way = Literal["present", "link", "copy", "fetch", "replace"]


@dataclass(frozen=True, slots=True)
class FilePlan:
    """`resumed_bytes` of it lie there from an earlier attempt, and are gone on with; `source` is what is linked or
    copied."""

    file: HubFile
    way: Way
    resumed_bytes: int = 0
    source: Lying | None = None


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """What a download would do. `ref` is the name that the commit gets, or the commit itself."""

    cache: Cache
    snapshot: HubSnapshot
    ref: str
    files: tuple[FilePlan, ...]

    @property
    def present_bytes(self) -> int:
        return self.size_bytes("present")

    @property
    def linked_bytes(self) -> int:
        return self.size_bytes("link")

    @property
    def copied_bytes(self) -> int:
        return self.size_bytes("copy")

    def size_bytes(self, *ways: Way) -> int:
        return sum(each.file.size_bytes for each in self.files if each.way in ways)

    @property
    def need(self) -> Need:
        """A link within the cache takes no room, and what is replaced no more than it has."""
        here = [each for each in self.files if each.way in {"present", "link", "replace"}]
        return Need(
            size_bytes=self.size_bytes("copy", "fetch"),
            file_count=len(self.files) - len(here),
            present_bytes=self.size_bytes("present", "link", "replace"),
            present_files=len(here),
        )

    @property
    def resumed_bytes(self) -> int:
        """Unfinished files that lie there, and become whole."""
        return sum(each.resumed_bytes for each in self.files)

    @property
    def fetched_bytes(self) -> int:
        """What the Hub would send."""
        from_hub = [each for each in self.files if each.way in {"fetch", "replace"}]
        return sum(each.file.size_bytes - each.resumed_bytes for each in from_hub)


def missing_weights(snapshot: HubSnapshot, *, lying: Sequence[FileReport]) -> dict[str, int]:
    """Sizes by sha256 of what is worth a search on other drives."""
    missing = missing_contents(snapshot, lying=lying)
    return {file.digest: file.size_bytes for file in missing if is_sha256(file.digest)}


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of the drives: the repo's whole files, sizes of its unfinished ones by digest, and files with the
    wanted digests anywhere. `bad` are digests that the last verification of the lying files found to be wrong."""

    lying: Sequence[FileReport]
    partials: Mapping[str, int]
    elsewhere: Mapping[str, Lying]
    bad: Container[str] = ()


def choose_ways(snapshot: HubSnapshot, *, cache: Cache, findings: Findings) -> tuple[FilePlan, ...]:
    missing = {file.digest for file in missing_contents(snapshot, lying=findings.lying)}
    return tuple(
        _choose(file, cache=cache, findings=findings) if file.digest in missing else _stay(file, bad=findings.bad)
        for file in snapshot.contents
    )


def _stay(file: HubFile, *, bad: Container[str]) -> FilePlan:
    return FilePlan(file, "replace" if file.digest in bad else "present")


def _choose(file: HubFile, *, cache: Cache, findings: Findings) -> FilePlan:
    source = findings.elsewhere.get(file.digest)
    resumed_bytes = min(findings.partials.get(file.digest, 0), file.size_bytes)
    if source is None:
        return FilePlan(file, "fetch", resumed_bytes)
    is_free = source.cache.pk == cache.pk and cache.takes_links is not False and not resumed_bytes
    return FilePlan(file, "link" if is_free else "copy", resumed_bytes, source)
