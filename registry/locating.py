"""Where a model's files are at this second: the row says which cache, the drive says what lies there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cachemgr import locks
from cachemgr.drive_report import DriveReport
from cachemgr.errors import CacheUnavailable, RepoBusy
from cachemgr.models import Cache
from cachemgr.monitor import look_up_repo
from cachemgr.report import RevisionReport
from registry.adoption import choose_loadable, mark_ready
from registry.errors import ModelDamaged, ModelNotDownloaded
from registry.models import Job, ModelRegistry
from registry.services import cache_of, home_of
from registry.serving import ServingSettings

_LOOK_SECONDS = 30.0  # a hard disk that sleeps takes about ten
_LOCK_SECONDS = 2.0  # files go in less, if they go one by one: a rename takes no time
_NOT_HERE = (CacheUnavailable, ModelNotDownloaded, RepoBusy)
_IN_WORK = {ModelRegistry.Status.DOWNLOADING, ModelRegistry.Status.MOVING}  # a job says when they are ready


@dataclass(frozen=True, slots=True)
class LocatedModel:
    """A model that can be loaded. `home` is the repo folder that its row named, `snapshot_path` is where it was found:
    elsewhere, if a move is open and the drive of its home is away. Both absolute; sizes in bytes. `cache_location` and
    `cache_path` say in which cache it was found. `code`: the Python files of it that may be run, with their hashes."""

    pk: int
    model_name: str
    home: Path
    snapshot_path: Path
    size_bytes: int
    is_pinned: bool
    serving: ServingSettings
    cache_location: str
    cache_path: str
    code: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HeldModel:
    """While its lock is held, nobody removes the files. Release it. `description`: what the describer said of them."""

    located: LocatedModel
    lock: locks.RepoLock
    description: Any = None


def locate(model: ModelRegistry) -> LocatedModel:
    """Looks on the drive that the row names. Raises what `hold` raises."""
    held = hold(model)
    held.lock.release()
    return held.located


def hold(model: ModelRegistry, *, describer: str | None = None) -> HeldModel:
    """Looks on the drive that the row names, and keeps its files from being removed. What has to be read of them reads
    the describer, a module, in the child process that looks: see ProbeRequest. Raises CacheUnavailable,
    ModelNotDownloaded, ModelDamaged, or RepoBusy while they are being removed."""
    refuse_damaged(model)
    while True:
        try:
            return _find(model, describer=describer)
        except _NOT_HERE:
            now = ModelRegistry.objects.filter(pk=model.pk).first()
            if now is None or home_of(now) == home_of(model):
                raise
            model = now  # it moved between our look at the row and our look at the drive


def refuse_damaged(model: ModelRegistry) -> None:
    """What a verification called bad is not loaded before it is repaired."""
    if model.damaged:
        names = ", ".join(str(each["name"]) for each in model.damaged)
        message = f"{model} has damaged files ({names}). Repair it first: POST /api/models/{model}/repair."
        raise ModelDamaged(message, details={"bad": model.damaged})


def look_again(located: Sequence[LocatedModel]) -> dict[int, LocatedModel]:
    """Those whose rows still name the same home, by pk, with the pin and the settings that they have now. One query."""
    rows = ModelRegistry.objects.in_bulk([each.pk for each in located])
    at_home = [each for each in located if each.pk in rows and home_of(rows[each.pk]) == each.home]
    return {each.pk: _up_to_date(each, rows[each.pk]) for each in at_home}


def _up_to_date(located: LocatedModel, model: ModelRegistry) -> LocatedModel:
    return replace(located, is_pinned=model.pinned, serving=model.serving_settings)


def _find(model: ModelRegistry, *, describer: str | None) -> HeldModel:
    """At home, else at the other end of an open move. Raises what was wrong at home."""
    home = cache_of(model)
    try:
        return _hold_in(home, model, describer=describer)
    except _NOT_HERE:
        for cache in _ends_of_move(model):
            if cache != home and (held := _hold_whole(cache, model, describer=describer)):
                return held
        raise


def _ends_of_move(model: ModelRegistry) -> Iterator[Cache]:
    """Of any row with these files: a move takes them all along."""
    moves = Job.objects.open().filter(hf_path=model.hf_path, kind=Job.Kind.MOVE)
    for job in moves.select_related("source", "target"):
        yield from (cache for cache in (job.source, job.target) if cache is not None)


def _hold_whole(cache: Cache, model: ModelRegistry, *, describer: str | None) -> HeldModel | None:
    """Where the row does not point, only what it describes to the byte will do: the rest may be gone already."""
    try:
        held = _hold_in(cache, model, describer=describer)
    except _NOT_HERE:
        return None
    if held.located.snapshot_path.name == model.revision and held.located.size_bytes == model.size_bytes:
        return held
    held.lock.release()
    return None


def _hold_in(cache: Cache, model: ModelRegistry, *, describer: str | None) -> HeldModel:
    """Locks first, then looks: what was seen there stays there."""
    folder = cache.home_of(model.hf_path)
    lock = locks.shared(folder, wait_seconds=_LOCK_SECONDS)
    try:
        report = look_up_repo(cache, repo_id=model.hf_path, limit_seconds=_LOOK_SECONDS, describer=describer)
        revision = _choose_revision(report, model, where=cache.path)
        is_home = folder == home_of(model)
        if is_home and model.status not in {ModelRegistry.Status.READY, *_IN_WORK}:
            mark_ready(model, revision)  # files that were put there by hand, or a drive that came back
    except BaseException:
        lock.release()
        raise
    description = (report.descriptions or {}).get(revision.commit)
    return HeldModel(_located(model, cache=cache, revision=revision), lock, description)


def _choose_revision(report: DriveReport, model: ModelRegistry, *, where: str) -> RevisionReport:
    if report.contents is None:
        raise CacheUnavailable(f"{model} cannot be loaded: {report.message}")
    found = [revision for repo in report.contents.repos for revision in repo.revisions]
    revision = choose_loadable(found, commit=model.revision)
    is_landing = model.status == ModelRegistry.Status.DOWNLOADING
    if revision is None or (is_landing and revision.commit != model.revision):
        raise not_downloaded(model, where=where)
    return revision


def _located(model: ModelRegistry, *, cache: Cache, revision: RevisionReport) -> LocatedModel:
    return LocatedModel(
        pk=model.pk,
        model_name=model.model_name,
        home=home_of(model),
        snapshot_path=cache.home_of(model.hf_path) / "snapshots" / revision.commit,
        size_bytes=revision.size_bytes,
        is_pinned=model.pinned,
        serving=model.serving_settings,
        cache_location=cache.location,
        cache_path=cache.path,
        code=tuple(model.code_of(revision.commit).items()),
    )


def not_downloaded(model: ModelRegistry, *, where: str) -> ModelNotDownloaded:
    return ModelNotDownloaded(
        f"{model} ({model.hf_path}) is registered, but its files are not in {where}. "
        f"Download it: POST /api/models/{model}/download, or the Download button in the admin.",
        details={"model_name": model.model_name, "status": model.status, "cache_path": where},
    )
