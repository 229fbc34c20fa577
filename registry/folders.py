"""A repo's folder in a cache belongs to all rows that name it: nobody moves it while another works in it, and there is
one truth about its bytes."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from cachemgr import locks
from cachemgr.errors import RepoBusy
from cachemgr.models import Cache
from registry.errors import JobOpen
from registry.models import Job, ModelRegistry

_NAMES_SHOWN = 5
_SHARING = [Job.Kind.DOWNLOAD, Job.Kind.REPAIR, Job.Kind.VERIFY]  # they add to the folder, or read it: others may too
_READING_SECONDS = 5.0
_MADE_ROOM = "It made room for other work; a later night goes on."

NIGHTLY = Q(kind=Job.Kind.VERIFY, options__has_key="budget_bytes")
"""Jobs that nobody asked for: they make room for all other work."""


# Work, and who else works there


def refuse_open_work(model: ModelRegistry, *caches: Cache, is_alone: bool = False) -> None:
    """Raises JobOpen while the model has work that is not finished, or its folder in one of these caches has: of any
    row that names the folder, or of a job that began there or goes there, wherever its row points by now. Downloads and
    checks of several rows get along in one folder, but for work that has to be alone there. Nightly checks are in
    nobody's way."""
    in_the_way = _in_the_way(model, caches, is_alone=is_alone).exclude(NIGHTLY)
    busy = in_the_way.select_related("model").order_by("pk").first()
    if busy is not None:
        raise _unfinished(model, busy)


def _in_the_way(model: ModelRegistry, caches: Iterable[Cache], *, is_alone: bool) -> QuerySet[Job]:
    concerns = Q(pk__in=[])
    for cache in caches:
        concerns |= Q(model__in=ModelRegistry.objects.in_folder(cache, model.hf_path))
        concerns |= Q(hf_path=model.hf_path) & (Q(source=cache) | Q(target=cache))
    if not is_alone:
        concerns &= ~Q(kind__in=_SHARING)
    return Job.objects.open().filter(Q(model=model) | concerns)


def is_being_left(cache: Cache, hf_path: str) -> bool:
    """A move is beyond its commit: what still lies there goes."""
    leaving = Job.objects.open().filter(kind=Job.Kind.MOVE, committed=True, source=cache)
    return leaving.filter(hf_path=hf_path).exists()


@contextmanager
def change(model: ModelRegistry, *caches: Cache, is_alone: bool = False, is_nightly: bool = False) -> Iterator[bool]:
    """The transaction in which work on its folder in these caches begins, or its row changes. Raises JobOpen, now as
    `refuse_open_work` does; nothing else begins there before its end. Yields whether a nightly check made room, which
    it does for all but its like: see `await_readers`."""
    try:
        with transaction.atomic():
            list(Cache.objects.select_for_update(of=("self",)).order_by("pk"))  # in the order in which room is booked
            refuse_open_work(model, *caches, is_alone=is_alone)
            yield not is_nightly and _make_room(_in_the_way(model, caches, is_alone=is_alone))
    except IntegrityError:  # of its own job, that was faster
        raise _unfinished(model, None) from None


def _make_room(in_the_way: QuerySet[Job]) -> bool:
    """Ends its nightly checks. Whoever runs one hears at its next beat that it is not its own any more."""
    ended = {"state": Job.State.CANCELLED, "finished_at": timezone.now(), "error_message": _MADE_ROOM}
    nightly = Job.objects.open().filter(pk__in=list(in_the_way.filter(NIGHTLY).values_list("pk", flat=True)))
    return nightly.update(**ended, lease_owner="", lease_expires_at=None, rate=0) > 0


def await_readers(folder: Path) -> None:
    """For work that needs the folder alone, after a nightly check made room: that reads on for a second or two. Who
    else holds it after a few is met by whoever locks it."""
    with suppress(RepoBusy):
        locks.exclusive(folder, wait_seconds=_READING_SECONDS).release()


def _unfinished(model: ModelRegistry, busy: Job | None) -> JobOpen:
    whose = f"{model} has unfinished work"
    if busy is not None and busy.model_id != model.pk:
        whose = f"{model} shares its files with {busy.title}, which has unfinished work"
    which = f" ({busy.kind})" if busy is not None else ""
    return JobOpen(f"{whose}{which}. Wait for it, or cancel it under Jobs.")


# One truth about its bytes


def note_whole(cache: Cache, hf_path: str, *, commit: str, unproven: Sequence[str] = ()) -> None:
    """All bytes of that commit were read there, and those of which anybody knows what they have to be are right. What
    was damaged is ready again."""
    rows = ModelRegistry.objects.in_folder(cache, hf_path).filter(revision=commit)
    rows.exclude(damaged=[]).update(status=ModelRegistry.Status.READY, error="", damaged=[])
    now = timezone.now()
    rows.update(read_at=now, unproven=list(unproven), verified_up_to="")
    if not unproven:
        rows.update(verified_at=now)


def note_part(cache: Cache, model: ModelRegistry, *, up_to: str, unproven: Sequence[str]) -> None:
    """As `note_whole`, of the model's files up to that one."""
    row = ModelRegistry.objects.in_folder(cache, model.hf_path).filter(pk=model.pk, revision=model.revision)
    row.update(verified_up_to=up_to, unproven=list(unproven))


def note_damaged(cache: Cache, model: ModelRegistry, bad: Sequence[dict[str, Any]]) -> None:
    """These files of the model's commit are not what they have to be: no row of it is served before it is repaired."""
    for row in ModelRegistry.objects.in_folder(cache, model.hf_path).filter(revision=model.revision):
        row.mark(ModelRegistry.Status.FAILED, error=describe_damage(row, bad), damaged=list(bad))


def describe_damage(model: ModelRegistry, bad: Sequence[dict[str, Any]]) -> str:
    names = _name_some([f"{each['name']} ({each['reason'].replace('_', ' ')})" for each in bad])
    what = "1 of its files is bad" if len(bad) == 1 else f"{len(bad)} of its files are bad"
    return f"{what}: {names}. Repair it: POST /api/models/{model}/repair, or the Repair button in the admin."


def describe_unproven(names: Sequence[str]) -> str:
    """The second half of a sentence that tells of files that were read; "" where there are none of these."""
    return f"; nobody knows the checksum of {len(names)} of them: {_name_some(names)}" if names else ""


def _name_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
