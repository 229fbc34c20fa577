"""Where a model's files are at this second: the row says which cache, the drive says what lies there."""

from dataclasses import dataclass
from pathlib import Path

from django.db.models import F
from django.utils import timezone

from cachemgr.errors import CacheUnavailable
from cachemgr.layout import repo_folder
from cachemgr.monitor import look_up_repo
from registry.adoption import choose_loadable, describe_revision
from registry.errors import ModelNotDownloaded
from registry.models import ModelRegistry
from registry.services import cache_of

_LOOK_SECONDS = 30.0  # a hard disk that sleeps takes about ten


@dataclass(frozen=True)
class LocatedModel:
    """A model that can be loaded. `snapshot_path` is absolute; sizes in bytes."""

    pk: int
    model_name: str
    snapshot_path: Path
    size_bytes: int
    is_pinned: bool


def locate(model: ModelRegistry) -> LocatedModel:
    """Looks on the drive that the row names. Raises CacheUnavailable or ModelNotDownloaded."""
    cache = cache_of(model)
    report = look_up_repo(cache, repo_id=model.hf_path, limit_seconds=_LOOK_SECONDS)
    if report.contents is None:
        raise CacheUnavailable(f"{model} cannot be loaded: {report.message}")
    found = [revision for repo in report.contents.repos for revision in repo.revisions]
    revision = choose_loadable(found, commit=model.revision)
    is_unverified = model.status == ModelRegistry.Status.DOWNLOADING and not model.revision
    if revision is None or is_unverified:
        raise not_downloaded(model, where=cache.path)
    if model.status != ModelRegistry.Status.READY:  # files that were put there by hand, or a drive that came back
        model.mark(ModelRegistry.Status.READY, **describe_revision(revision))
    return LocatedModel(
        pk=model.pk,
        model_name=model.model_name,
        snapshot_path=Path(cache.path) / repo_folder(model.hf_path) / "snapshots" / revision.commit,
        size_bytes=revision.size_bytes,
        is_pinned=model.pinned,
    )


def not_downloaded(model: ModelRegistry, *, where: str) -> ModelNotDownloaded:
    return ModelNotDownloaded(
        f"{model} ({model.hf_path}) is registered, but its files are not in {where}. "
        f"Download it: POST /api/models/{model}/download, or the Download button in the admin.",
        details={"model_name": model.model_name, "status": model.status, "cache_path": where},
    )


def note_use(pk: int) -> None:
    """Counts a request, for placement and clean-up: the access times of files tell nothing."""
    ModelRegistry.objects.filter(pk=pk).update(last_used_at=timezone.now(), use_count=F("use_count") + 1)
