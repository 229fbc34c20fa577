"""The state of the box, for the Home page: asked of the database, the pool and this machine, and of no drive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from cachemgr.stats import CacheLine, cache_lines
from registry.job_words import facts_of
from registry.models import Job, ModelRegistry
from web import attention, bars, presences
from web.attention import Findings, Item
from web.bars import Bar, Held
from web.cards import Words, color_of, words_for
from web.machine import Machine, read_machine
from web.presences import Presence
from web.traffic import Traffic, last_hour
from web.welcome import is_new

_JOBS_SHOWN = 6
_NEWS = timedelta(days=7)
_FOUND_SHOWN = 6
_TROUBLED = (ModelRegistry.Status.FAILED, ModelRegistry.Status.MISSING)


@dataclass(frozen=True)
class Drive:
    line: CacheLine
    words: Words
    color: str
    bar: Bar


@dataclass(frozen=True, slots=True)
class Work:
    """An open job. `facts` is how far it is, in a line."""

    title: str
    kind: str
    percent: float
    facts: str
    is_running: bool


@dataclass(frozen=True, slots=True)
class Welcome:
    """Of a box that nobody has used yet. `models` were found on its drives."""

    models: tuple[str, ...]
    more_models: int

    @property
    def count(self) -> int:
        return len(self.models) + self.more_models


@dataclass(frozen=True)
class Box:
    """All that the page shows. `presences` is None where this process has no pool."""

    drives: Sequence[Drive]
    presences: Sequence[Presence] | None
    machine: Machine
    jobs: Sequence[Work]
    more_jobs: int
    traffic: Traffic
    items: Sequence[Item]
    more_items: int
    model_count: int
    welcome: Welcome | None


def look(*, in_memory: Sequence[Mapping[str, Any]] | None) -> Box:
    """`in_memory` as /api/ps has it. A fixed number of queries."""
    lines = cache_lines()
    keys = dict(ModelRegistry.objects.order_by("model_name").values_list("model_name", "pk"))
    jobs, job_count = _open_jobs()
    traffic = last_hour(now=timezone.now())
    items = attention.list_items(_findings(lines))
    is_used = bool(traffic.count or jobs)  # then nothing has to be asked
    return Box(
        drives=[_drive(line) for line in lines],
        presences=None if in_memory is None else presences.describe(in_memory, keys=keys),
        machine=read_machine(),
        jobs=[_work(job) for job in jobs],
        more_jobs=job_count - len(jobs),
        traffic=traffic,
        items=items[: attention.SHOWN],
        more_items=max(0, len(items) - attention.SHOWN),
        model_count=len(keys),
        welcome=_welcome(list(keys)) if not is_used and is_new() else None,
    )


def _open_jobs() -> tuple[list[Job], int]:
    """Those that run come first, as many as are shown; and how many there are."""
    found = Job.objects.open()
    return list(found.for_display().order_by("-state", "pk")[:_JOBS_SHOWN]), found.count()


def _drive(line: CacheLine) -> Drive:
    models = Held("models", max(0, line.figures.used_bytes - line.snapshot.foreign_bytes))
    bar = bars.draw_cache([models], figures=line.figures, threshold=settings.CACHE_WARNING_THRESHOLD)
    return Drive(line, words_for(line), color_of(line), bar)


def _work(job: Job) -> Work:
    is_running = job.state == Job.State.RUNNING
    return Work(job.title, job.get_kind_display(), job.percent, facts_of(job), is_running=is_running)


def _findings(lines: Sequence[CacheLine]) -> Findings:
    is_damaged = ~Q(damaged=[])
    models = ModelRegistry.objects.filter(Q(status__in=_TROUBLED) | is_damaged)
    later = Job.objects.filter(model=OuterRef("model"), pk__gt=OuterRef("pk"))
    failed = Job.objects.filter(state=Job.State.FAILED, finished_at__gte=timezone.now() - _NEWS, model__isnull=False)
    return Findings(
        lines=lines,
        models=list(models.order_by("model_name").only(*_COLUMNS)[:_MOST]),
        jobs=list(failed.filter(~Exists(later)).for_display()[:_MOST]),
    )


_COLUMNS = ("model_name", "status", "error", "damaged", "cache_location", "cache_path")
_MOST = 100  # more than anybody reads


def _welcome(names: Sequence[str]) -> Welcome:
    return Welcome(tuple(names[:_FOUND_SHOWN]), more_models=max(0, len(names) - _FOUND_SHOWN))
