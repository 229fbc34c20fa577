"""Caches as places for one model: what of it lies there already, what would have to come, and whether that fits."""

from collections.abc import Iterable
from dataclasses import dataclass

from cachemgr import services as caches
from cachemgr.advice import Recommendation
from cachemgr.drive_report import ANSWERING
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo, CacheSnapshot
from cachemgr.monitor import current_snapshot, list_repo_files
from cachemgr.report import FileReport, RevisionReport
from cachemgr.space import Verdict
from registry.adoption import loadable_revision
from registry.estimates import Size, find_size
from registry.hub import HubFile, HubSnapshot


@dataclass(frozen=True, slots=True)
class Need:
    """What a cache lacks of a model, and what lies there of it, each content counted once."""

    size_bytes: int
    file_count: int
    present_bytes: int = 0
    present_files: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """A cache for one model, as measured just now. The verdict is about what it lacks: nothing, where a `revision`
    lies there that can be loaded."""

    cache: Cache
    measured: CacheSnapshot
    revision: RevisionReport | None
    need: Need
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Estimate:
    """How large a repo is, and where it would go. `places` are the configured caches, and others that know it."""

    hf_path: str
    size: Size
    places: tuple[Place, ...]
    recommendation: Recommendation


def estimate(hf_path: str, *, revision: str = "main") -> Estimate:
    """Asks the Hub and the drives, each within seconds; writes nothing."""
    return weigh_places(hf_path, size=find_size(hf_path, revision=revision))


def weigh_places(hf_path: str, *, size: Size) -> Estimate:
    """Asks the drives alone."""
    configured = caches.configured_caches()
    others = Cache.objects.filter(repos__folder=repo_folder(hf_path)).exclude(pk__in=[each.pk for each in configured])
    places = [consider(cache, hf_path, size=size) for cache in (*configured, *others.order_by("pk"))]
    recommendation = caches.weigh([place.verdict for place in places[: len(configured)]])
    return Estimate(hf_path, size, tuple(places), recommendation)


def consider(cache: Cache, hf_path: str, *, size: Size) -> Place:
    """Asks that cache's drive: how full it is, and what it has of the model."""
    measured = current_snapshot(cache)
    revision = present_revision(hf_path, cache=cache, measured=measured)
    if revision is not None:
        need = Need(0, 0, present_bytes=revision.size_bytes, present_files=revision.file_count)
    else:
        need = need_in(cache, hf_path, size=size)
    verdict = caches.judge(cache, measured, required_bytes=need.size_bytes, required_files=need.file_count)
    return Place(cache, measured, revision, need, verdict)


def choose_place(hf_path: str, *, size: Size) -> Place:
    """The recommended one, or primary where it fits nowhere (and is refused with its numbers)."""
    places = [consider(cache, hf_path, size=size) for cache in caches.configured_caches()]
    location = caches.weigh([place.verdict for place in places]).location
    return next((place for place in places if place.cache.location == location), places[0])


def present_revision(hf_path: str, *, cache: Cache, measured: CacheSnapshot) -> RevisionReport | None:
    """One that could be loaded from there, as the last scan found it."""
    if cache._state.adding or measured.state not in ANSWERING:
        return None
    repo = known_repo(cache, hf_path)
    return loadable_revision(repo) if repo else None


def known_repo(cache: Cache, hf_path: str) -> CachedRepo | None:
    return CachedRepo.objects.filter(cache=cache, folder=repo_folder(hf_path)).first()


def need_in(cache: Cache, hf_path: str, *, size: Size) -> Need:
    """What of the Hub's list is still to come. The drive is asked only where the last scan saw the repo's folder."""
    is_unheard_of = cache._state.adding or known_repo(cache, hf_path) is None
    if size.snapshot is None or is_unheard_of:
        return Need(size.size_bytes, size.file_count)
    return still_needed(size.snapshot, lying=list_repo_files(cache, repo_id=hf_path) or ())


def still_needed(snapshot: HubSnapshot, *, lying: Iterable[FileReport]) -> Need:
    contents, missing = snapshot.contents, missing_contents(snapshot, lying=lying)
    missing_bytes = sum(file.size_bytes for file in missing)
    return Need(
        size_bytes=missing_bytes,
        file_count=len(missing),
        present_bytes=snapshot.size_bytes - missing_bytes,
        present_files=len(contents) - len(missing),
    )


def missing_contents(snapshot: HubSnapshot, *, lying: Iterable[FileReport]) -> list[HubFile]:
    """A content lies there, whole, as a blob of any revision, or as a copy in this very one."""
    files = tuple(lying)
    blobs = {(file.digest, file.size_bytes) for file in files if file.digest}
    copies = {(file.name, file.size_bytes) for file in files if not file.digest and file.revision == snapshot.commit}
    return [
        file
        for file in snapshot.contents
        if (file.digest, file.size_bytes) not in blobs and (file.name, file.size_bytes) not in copies
    ]
