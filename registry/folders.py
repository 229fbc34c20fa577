"""A repo's folder in a cache belongs to all rows that name it: nobody moves it while another works in it, and there is
one truth about its bytes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from cachemgr.models import Cache
from registry.errors import JobOpen
from registry.models import Job, ModelRegistry

_NAMES_SHOWN = 5
_SHARING = [Job.Kind.DOWNLOAD, Job.Kind.REPAIR, Job.Kind.VERIFY]  # they add to the folder, or read it: others may too


# Work, and who else works there


def refuse_open_work(model: ModelRegistry, *caches: Cache, is_alone: bool = False) -> None:
    """Raises JobOpen while the model has work that is not finished, or its folder in one of these caches has: of any
    row that names the folder, or of a job that began there or goes there, wherever its row points by now. Downloads and
    checks of several rows get along in one folder, but for work that has to be alone there."""
    concerns = Q(pk__in=[])
    for cache in caches:
        concerns |= Q(model__in=ModelRegistry.objects.in_folder(cache, model.hf_path))
        concerns |= Q(model__hf_path=model.hf_path) & (Q(source=cache) | Q(target=cache))
    if not is_alone:
        concerns &= ~Q(kind__in=_SHARING)
    jobs = Job.objects.open().filter(Q(model=model) | concerns)
    busy = jobs.select_related("model").order_by("pk").first()
    if busy is not None:
        raise _unfinished(model, busy)


def is_being_left(cache: Cache, hf_path: str) -> bool:
    """A move is beyond its commit: what still lies there goes."""
    leaving = Job.objects.open().filter(kind=Job.Kind.MOVE, committed=True, source=cache)
    return leaving.filter(model__hf_path=hf_path).exists()


@contextmanager
def change(model: ModelRegistry, *caches: Cache, is_alone: bool = False) -> Iterator[None]:
    """The transaction in which work on its folder in these caches begins, or its row changes. Raises JobOpen, now as
    `refuse_open_work` does; nothing else begins there before its end."""
    try:
        with transaction.atomic():
            list(Cache.objects.select_for_update(of=("self",)).order_by("pk"))  # in the order in which room is booked
            refuse_open_work(model, *caches, is_alone=is_alone)
            yield
    except IntegrityError:  # of its own job, that was faster
        raise _unfinished(model, None) from None


def _unfinished(model: ModelRegistry, busy: Job | None) -> JobOpen:
    whose = f"{model} has unfinished work"
    if busy is not None and busy.model_id != model.pk:
        whose = f"{model} shares its files with {busy.model}, which has unfinished work"
    which = f" ({busy.kind})" if busy is not None else ""
    return JobOpen(f"{whose}{which}. Wait for it, or cancel it under Jobs.")


# One truth about its bytes


def note_whole(cache: Cache, hf_path: str, *, commit: str) -> None:
    """All bytes of that commit were read there, and are right. What was damaged is ready again."""
    rows = ModelRegistry.objects.in_folder(cache, hf_path).filter(revision=commit)
    rows.exclude(damaged=[]).update(status=ModelRegistry.Status.READY, error="", damaged=[])
    rows.update(verified_at=timezone.now(), verified_up_to="")


def note_damaged(cache: Cache, model: ModelRegistry, bad: Sequence[dict[str, Any]]) -> None:
    """These files of the model's commit are not what they have to be: no row of it is served before it is repaired."""
    for row in ModelRegistry.objects.in_folder(cache, model.hf_path).filter(revision=model.revision):
        row.mark(ModelRegistry.Status.FAILED, error=describe_damage(row, bad), damaged=list(bad))


def describe_damage(model: ModelRegistry, bad: Sequence[dict[str, Any]]) -> str:
    names = ", ".join(f"{each['name']} ({each['reason'].replace('_', ' ')})" for each in bad[:_NAMES_SHOWN])
    more = f" and {len(bad) - _NAMES_SHOWN} more" if len(bad) > _NAMES_SHOWN else ""
    what = "1 of its files is bad" if len(bad) == 1 else f"{len(bad)} of its files are bad"
    return f"{what}: {names}{more}. Repair it: POST /api/models/{model}/repair, or the Repair button in the admin."
