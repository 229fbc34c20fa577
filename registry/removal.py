"""Removing a model: its row, its files, or both. Files go to the trash of their cache, and can come back from there.

The row of a `remove` job is the claim: nobody else works on the model meanwhile. After a crash a worker finishes it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import serializers
from django.db import transaction

from cachemgr import locks, monitor, trash
from cachemgr import services as caches
from cachemgr.chores import Weight, weigh
from cachemgr.errors import ErrandFailed, NotInTrash, RepoBusy
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, TrashedRepo
from cachemgr.recovery import recover_cache
from homelab import audit
from homelab.errors import HomelabError, InvalidValue
from registry import folders, services
from registry.adoption import place_columns
from registry.errors import FilesShared
from registry.following import Report
from registry.models import Job, ModelRegistry

_KEPT_STATES = {ModelRegistry.Status.READY, ModelRegistry.Status.FAILED}
_WITHOUT_FILES: dict[str, Any] = {
    "revision": "",
    "damaged": [],
    "read_at": None,
    "verified_at": None,
    "verified_up_to": "",
    "unproven": [],
}
"""What a row says of its files when they are gone: the next ones are others."""


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What removing a model's files would mean. `weight` is what emptying the trash frees then; `shared_with` are other
    models in the same folder; `is_busy`: it is loaded, or its files are read or copied."""

    model: ModelRegistry
    cache: Cache
    folder: str
    weight: Weight
    shared_with: tuple[ModelRegistry, ...]
    is_busy: bool

    @property
    def has_files(self) -> bool:
        return self.weight != Weight()


def plan_removal(model: ModelRegistry) -> RemovalPlan:
    """Asks the drive, and changes nothing. Raises ErrandFailed, CacheUnavailable."""
    cache, folder = services.cache_of(model), repo_folder(model.hf_path)
    others = ModelRegistry.objects.in_folder(cache, model.hf_path).exclude(pk=model.pk)
    monitor.require_drive(cache)
    (weight,) = weigh(cache, [folder])
    return RemovalPlan(model, cache, folder, weight, tuple(others), _is_busy(cache, folder))


def _is_busy(cache: Cache, folder: str) -> bool:
    try:
        locks.exclusive(Path(cache.path) / folder).release()
    except RepoBusy:
        return True
    return False


def remove(model: ModelRegistry, *, keeps_row: bool = False) -> TrashedRepo | None:
    """Its files go to the trash; None where there were none. The model is forgotten, or stays registered without them.

    Raises FilesShared, JobOpen, RepoBusy; ErrandFailed or CacheUnavailable where the drive is not there. After any
    other error a worker goes on.
    """
    monitor.require_drive(services.cache_of(model))
    job = _claim(model, keeps_row=keeps_row)
    try:
        with job.kept_alive():
            entry = _put_in_trash(model, keeps_row=keeps_row)
    except HomelabError as error:
        job.close(Job.State.FAILED, error_code=error.code, error_message=error.message)
        raise
    _record(model, keeps_row=keeps_row)
    job.close(Job.State.DONE)
    return entry


def _record(model: ModelRegistry, *, keeps_row: bool) -> None:
    files = f"Its files in {services.cache_path_of(model)} went to the trash"
    if keeps_row:
        audit.record_change(model, f"{files}; it stays registered.")
    else:
        audit.record_removal(model, f"{files}, and it is forgotten.")


def finish(job: Job, *, report: Report) -> None:
    """The work of a `remove` job whose process died: whatever it had begun is finished."""
    report(stage="moving to the trash", bytes_done=0, bytes_total=job.bytes_total)
    if job.model is None:  # it is forgotten, and that came last
        return
    recover_cache(services.cache_of(job.model))
    if ModelRegistry.objects.filter(jobs=job).exists():
        _put_in_trash(job.model, keeps_row=bool(job.options.get("keeps_row")))


def _claim(model: ModelRegistry, *, keeps_row: bool = False) -> Job:
    options = {"keeps_row": keeps_row}
    with folders.change(model, services.cache_of(model)) as made_room:
        job = Job.objects.create(kind=Job.Kind.REMOVE, model=model, options=options, bytes_total=model.size_bytes or 0)
        job.take_unbegun()
    if made_room:
        folders.await_readers(services.home_of(model))
    return job


def _put_in_trash(model: ModelRegistry, *, keeps_row: bool) -> TrashedRepo | None:
    plan, remembered = plan_removal(model), _remembered(model, keeps_row=keeps_row)
    refuse_shared(plan)
    try:
        return trash.put(
            plan.cache, folder=plan.folder, title=model.model_name, remembered=remembered, weight=plan.weight
        )
    except ErrandFailed as error:
        if error.code != "not_there":
            raise
    _let_go(model, keeps_row=keeps_row)
    return None


def refuse_shared(plan: RemovalPlan) -> None:
    """Raises FilesShared."""
    if plan.shared_with:
        names = ", ".join(other.model_name for other in plan.shared_with)
        raise FilesShared(
            f"The files of {plan.model} are also those of {names}. Say files=keep to forget {plan.model} alone.",
            details={"shared_with": [other.model_name for other in plan.shared_with]},
        )


def _let_go(model: ModelRegistry, *, keeps_row: bool) -> None:
    with transaction.atomic():
        caches.release(model.owner_key)
        if keeps_row:
            model.mark(ModelRegistry.Status.REGISTERED, **_WITHOUT_FILES)
        else:
            ModelRegistry.objects.filter(pk=model.pk).delete()


def choice_needed(model: ModelRegistry) -> InvalidValue:
    message = (
        f"{model} has files on a drive. Say files=trash to move them to the trash, from where they can come back for "
        f"{settings.TRASH_DAYS} days (with row=keep the model stays registered), or files=keep to forget the model and "
        f"leave them where they are."
    )
    return InvalidValue(message, field="files", code="files_choice_needed")


def end_work(*, instance: ModelRegistry, **_: Any) -> None:
    """Receives Django's `pre_delete`. Our doors refuse a model with open work; past them, whoever does it is told to
    end."""
    Job.objects.open().filter(model=instance).exclude(kind=Job.Kind.REMOVE).ask_to_end()


def undo(job: Job) -> None:
    """Puts back what it put into the trash, and the model into the registry. Raises NotInTrash, and what
    `trash.restore` raises."""
    if job.trash is None:
        raise NotInTrash(f"What job {job.pk} removed is not in the trash any more.")
    trash.restore(trash.find_entry(job.trash))


# What the trash tells


def _remembered(model: ModelRegistry, *, keeps_row: bool = False) -> dict[str, Any]:
    (row,) = json.loads(serializers.serialize("json", [model]))
    return {"model": row, "keeps_row": keeps_row}


def forget_trashed(*, entry: TrashedRepo, **_: Any) -> None:
    """Receives cachemgr's `repo_trashed`. Not for a model that somebody works on again."""
    row = entry.remembered.get("model") or {"pk": None}
    for model in ModelRegistry.objects.in_cache(entry.cache).filter(pk=row["pk"]):
        if not Job.objects.open().filter(model=model).exclude(kind=Job.Kind.REMOVE).exists():
            newest = model.jobs.filter(kind=Job.Kind.REMOVE).values("pk")[:1]
            Job.objects.filter(pk__in=newest).update(trashed=entry)
            _let_go(model, keeps_row=bool(entry.remembered.get("keeps_row")))


def take_back(*, entry: TrashedRepo, **_: Any) -> None:
    """Receives cachemgr's `repo_restored`. The row is as it was, also one that stayed and still has no other files;
    where its name or folder has another model by now, the next scan looks after the files."""
    row = entry.remembered.get("model")
    if row is None:
        return
    (found,) = serializers.deserialize("json", json.dumps([row]), ignorenonexistent=True)
    model = found.object
    assert isinstance(model, ModelRegistry)
    if model.status not in _KEPT_STATES:
        model.status = ModelRegistry.Status.REGISTERED
    if ModelRegistry.objects.in_folder(entry.cache, model.hf_path).exists():
        _tell_of_files(model, cache=entry.cache)
    elif not ModelRegistry.objects.filter(model_name=model.model_name).exists():
        _insert(model, cache=entry.cache)


def _tell_of_files(model: ModelRegistry, *, cache: Cache) -> None:
    """What was known of the files, bad ones too, is true again: for the row that stayed when they went."""
    stayed = ModelRegistry.objects.in_folder(cache, model.hf_path).filter(pk=model.pk, revision="")
    known = {name: getattr(model, name) for name in ("status", "error", *_WITHOUT_FILES)}
    stayed.filter(status=ModelRegistry.Status.REGISTERED).update(**known)


def _insert(model: ModelRegistry, *, cache: Cache) -> None:
    for column, value in place_columns(cache).items():
        setattr(model, column, value)
    model.pk = None
    model.save(force_insert=True)
    audit.record_addition(model, f"It came back from the trash of {cache.path}.")
