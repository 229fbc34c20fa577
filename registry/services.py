"""Registering, estimating, finding and forgetting models. The doors (API, admin, shell) all come through here."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from cachemgr import services as caches
from cachemgr import trash
from cachemgr.errors import InsufficientSpace
from cachemgr.layout import is_repo_id, repo_folder
from cachemgr.models import Cache, CachedRepo
from cachemgr.space import Verdict
from cachemgr.units import MB
from homelab import audit
from homelab.errors import InvalidValue
from homelab.waking import wake
from registry import folders
from registry.adoption import as_it_was, describe_revision, place_columns
from registry.errors import JobOpen, NameTaken, NotNow, UnknownJob, UnknownModel
from registry.estimates import Notice, Size, find_size
from registry.models import REVISION_PATTERN, REVISION_RULE, Job, ModelRegistry
from registry.placing import Need, Place, choose_place, consider, present_revision

_WAKE_LASTS_SECONDS = 60.0


WITHOUT_FILES = (ModelRegistry.Status.REGISTERED, ModelRegistry.Status.FAILED)


@dataclass(frozen=True)
class Wish:
    """What a user asks for. `cache_location` None: the recommended one. `estimated_bytes` None: find out."""

    model_name: str
    hf_path: str
    cache_location: str | None = None
    cache_path: str | None = None
    estimated_bytes: int | None = None
    wanted_revision: str = "main"
    pinned: bool = False


@dataclass(frozen=True)
class Proposal:
    """A registration that was thought through, and not written yet. `execute` writes it."""

    wish: Wish
    size: Size
    place: Place

    @property
    def verdict(self) -> Verdict:
        return self.place.verdict

    def execute(self) -> "Registration":
        """Makes the row and books its bytes in one transaction. Raises NameTaken, or InsufficientSpace if others were
        faster."""
        model = _row(self.wish, size=self.size, cache=self.place.cache)
        try:
            with transaction.atomic():
                model.save()
                verdict = _book_or_adopt(model, place=self.place, size=self.size)
                audit.record_addition(model, f"Registered: {model.hf_path} in {self.place.cache.path}.")
        except IntegrityError as error:
            raise name_taken(self.wish.model_name) from error
        return Registration(model, verdict, [*self.size.notices, *notices_of(verdict)])


@dataclass(frozen=True)
class Registration:
    model: ModelRegistry
    verdict: Verdict
    notices: list[Notice] = field(default_factory=list)


def propose(wish: Wish) -> Proposal:
    """Checks the names, the place and the space; writes nothing. Raises InvalidValue (400), NameTaken (409).

    A verdict that refuses is part of the answer: a form shows it beside the field, `register` raises it.
    """
    check_names(wish)
    size = find_size(wish.hf_path, revision=wish.wanted_revision, given_bytes=wish.estimated_bytes)
    if wish.cache_location is None:
        return Proposal(wish, size, choose_place(wish.hf_path, size=size))
    cache = caches.find_cache(wish.cache_location, path=wish.cache_path)
    return Proposal(wish, size, consider(cache, wish.hf_path, size=size))


def register(wish: Wish) -> Registration:
    """Registers a model and books its bytes. Nothing is downloaded. Raises what `propose` raises, and InsufficientSpace
    (507)."""
    proposal = propose_for_good(wish)
    if proposal.verdict.is_refusal:
        raise shortage(proposal)
    return proposal.execute()


def propose_for_good(wish: Wish) -> Proposal:
    """As `propose`, where the room is wanted now: as much of the trash as is lacking gives way to it."""
    proposal = propose(wish)
    if proposal.verdict.is_refusal and trash.make_room(proposal.verdict):
        return propose(wish)
    return proposal


def shortage(proposal: Proposal) -> InsufficientSpace:
    place = proposal.place
    return caches.shortage(place.verdict, cache=place.cache, measured=place.measured)


def name_taken(model_name: str) -> NameTaken:
    return NameTaken(f"There is a model named {model_name} already. Choose another name.")


def _row(wish: Wish, *, size: Size, cache: Cache) -> ModelRegistry:
    megabytes = size.size_bytes / MB if size.size_bytes else None
    return ModelRegistry(
        model_name=wish.model_name,
        hf_path=wish.hf_path,
        cache_location=cache.location,
        cache_path=cache.path if cache.location == Cache.Location.CUSTOM else None,
        estimated_size_mb=megabytes,
        model_size_mb=megabytes,
        wanted_revision=wish.wanted_revision,
        pinned=wish.pinned,
    )


def _book_or_adopt(model: ModelRegistry, *, place: Place, size: Size) -> Verdict:
    """A repo that already lies complete in that cache, and stays there, needs no bytes: the row is ready at once."""
    cache = caches.keep(place.cache)
    revision = present_revision(model.hf_path, cache=cache, measured=place.measured)
    if revision is None or folders.is_being_left(cache, model.hf_path):
        need = Need(size.size_bytes, size.file_count) if place.revision else place.need  # it went away meanwhile
        return caches.book(cache, _booking(model, need=need), measured=place.measured)
    model.mark(ModelRegistry.Status.READY, **describe_revision(revision))
    return caches.judge(cache, place.measured, required_bytes=0)


def _booking(model: ModelRegistry, *, need: Need) -> caches.Booking:
    return caches.Booking(model.owner_key, model.hf_path, need.size_bytes, need.file_count)


def check_names(wish: Wish) -> None:
    check_hf_path(wish.hf_path)
    if not re.match(REVISION_PATTERN, wish.wanted_revision):
        raise InvalidValue(REVISION_RULE, field="wanted_revision", code="invalid_revision")
    try:
        ModelRegistry(model_name=wish.model_name, hf_path=wish.hf_path).clean_fields(exclude=["cache_path"])
    except ValidationError as error:
        name, problems = next(iter(error.error_dict.items()))
        raise InvalidValue(problems[0].messages[0], field=name, code=problems[0].code or "invalid") from error
    if ModelRegistry.objects.filter(model_name=wish.model_name).exists():
        raise name_taken(wish.model_name)


def check_hf_path(hf_path: str) -> None:
    if not is_repo_id(hf_path):
        message = f"hf_path {hf_path[:80]!r} is no repo on the Hub. It is org/name, or name alone as in gpt2."
        raise InvalidValue(message, field="hf_path", code="invalid_repo_id")


def notices_of(verdict: Verdict) -> list[Notice]:
    if verdict.limiting_factor == "unavailable":
        return [Notice("cache_unavailable", f"{verdict.message} The download needs it.")]
    return [Notice("space_low", verdict.message)] if verdict.warning else []


def get_model(name: str) -> ModelRegistry:
    found = ModelRegistry.objects.named(name) if name.isprintable() else None
    if found is None:
        raise UnknownModel(f"There is no model named {name[:100]!r}. GET /api/models lists them.")
    return found


def model_of(job: Job) -> ModelRegistry:
    """For work on it, and for what begins such work. Raises NotNow where it was removed: then a job is history."""
    if job.model is None:
        raise NotNow(f"Job {job.pk} cannot go on: its model {job.title} was removed. Register {job.hf_path} again.")
    return job.model


def cache_of(model: ModelRegistry) -> Cache:
    """Where the row says that the model lives: SQL by hand counts as much as we do."""
    return caches.keep(caches.find_cache(model.cache_location, path=model.cache_path))


def cache_path_of(model: ModelRegistry) -> str:
    """The directory that counts for the row now."""
    configured: dict[str, Any] = {"primary": settings.PRIMARY_CACHE_PATH, "secondary": settings.SECONDARY_CACHE_PATH}
    return str(configured.get(model.cache_location, model.cache_path or ""))


def home_of(model: ModelRegistry) -> Path:
    """The repo folder that the row names."""
    return Path(cache_path_of(model)) / repo_folder(model.hf_path)


def request_download(model: ModelRegistry) -> Job:
    """Queues a download. Asking twice is safe: an open one is answered. A finished one checks what is there."""
    cache = cache_of(model)
    try:
        with folders.change(model, cache):
            job = Job.objects.create(
                kind=Job.Kind.DOWNLOAD, model=model, target=cache, bytes_total=model.size_bytes or 0
            )
            audit.record_change(model, f"A download into {cache.path} was asked for.")
            if model.status != ModelRegistry.Status.READY:  # what is ready stays usable while it is checked
                model.mark(ModelRegistry.Status.DOWNLOADING)
    except JobOpen:
        open_job = Job.objects.open().filter(model=model, kind=Job.Kind.DOWNLOAD).first()
        if open_job is None:
            raise
        return open_job
    transaction.on_commit(lambda: wake_worker(job))
    return job


def find_job(pk: int, *, listed_by: str) -> Job:
    """Raises UnknownJob, which names where jobs are listed."""
    job = Job.objects.for_display().filter(pk=pk).first()
    if job is None:
        raise UnknownJob(f"There is no job {pk}. {listed_by} lists them.")
    return job


def wake_worker(job: Job, *, pause: timedelta = timedelta(0)) -> None:
    """A message with the job's number, for after the pause. The reconciler sends another each minute while the job is
    due: one that waited longer is of no use, and hundreds of them must not pile up behind a long job."""
    wake(
        "registry.tasks.run_job",
        args=[job.pk],
        countdown=pause.total_seconds(),
        expires=pause.total_seconds() + _WAKE_LASTS_SECONDS,
        otherwise=f"Job {job.pk} starts within a minute of its return.",
    )


def give_up_download(job: Job, *, status: ModelRegistry.Status, error: str = "") -> None:
    """After a download that ended early. A model that was ready before it still is; one that was damaged, too."""
    row = ModelRegistry.objects.filter(jobs=job, status=ModelRegistry.Status.DOWNLOADING).first()
    if row is not None and row.damaged:
        status, error = ModelRegistry.Status.FAILED, error or folders.describe_damage(row, row.damaged)
    if row is not None:
        as_it_was(row).update(status=status, error=error)


def relocate(model: ModelRegistry, *, cache_location: str, cache_path: str | None) -> Verdict:
    """Another place for a model that is not downloaded yet: its promise of space moves along."""
    if model.status not in WITHOUT_FILES or model.damaged:
        raise NotNow(f"{model} is {model.status}: its files have to move, and its row alone must not.")
    size = Size(model.size_bytes or 0, "given")
    place = consider(caches.find_cache(cache_location, path=cache_path), model.hf_path, size=size)
    source = cache_of(model)
    with folders.change(model, source):
        cache = caches.keep(place.cache)
        columns = place_columns(cache)
        if not as_it_was(model).update(**columns):
            raise NotNow(f"{model} changed while {cache.path} was asked. Look at it, and choose again.")
        verdict = caches.book(cache, _booking(model, need=place.need), measured=place.measured)
        audit.record_change(model, f"It belongs in {cache.path} now, and no longer in {source.path}.")
    for column, value in columns.items():
        setattr(model, column, value)
    return verdict


def has_no_files(model: ModelRegistry) -> bool:
    """True when no scan ever found files of it: forgetting it needs no choice."""
    return not CachedRepo.objects.filter(folder=repo_folder(model.hf_path)).exists()


def forget(model: ModelRegistry) -> None:
    """Removes the row and its promise of space. Its files stay where they are; a scan adopts them again."""
    with folders.change(model):
        caches.release(model.owner_key)
        audit.record_removal(model, f"Forgotten. Its files in {cache_path_of(model)} were left alone.")
        model.delete()
