"""What the page of a model shows beside its settings. It reads rows alone: no drive is asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from cachemgr.layout import repo_folder
from cachemgr.models import CachedRepo
from cachemgr.report import RevisionReport
from cachemgr.units import format_duration
from inference.daily import Day, days_of
from inference.figures import figure_lines
from inference.load_acts import expected_seconds
from inference.stats import LoadsFrom, stats_of
from registry import checkups, remote_code, services
from registry.admin import progress_bar
from registry.models import Job, ModelRegistry
from registry.statuses import chip_of
from web.day_plot import DayPlot, draw_days
from web.model_acts import Button, choose_buttons

_JOBS_SHOWN = 5
_PLACES = {"primary": "Primary", "secondary": "Secondary", "custom": "Custom path"}


@dataclass(frozen=True, slots=True)
class Revision:
    report: RevisionReport
    is_served: bool

    @property
    def names(self) -> str:
        return ", ".join(self.report.refs)


@dataclass(frozen=True, slots=True)
class LoadTime:
    """How long loads from one cache take; `width` is a share of 100, the slowest has all."""

    place: str
    path: str
    words: str
    width: float


@dataclass(frozen=True, slots=True)
class ModelPage:
    """`spares` are copies of it in other caches; `served_with` other models in the same folder; sizes in bytes."""

    model: ModelRegistry
    place: str
    path: str
    buttons: Sequence[Button]
    open_job: Job | None
    jobs: Sequence[Job]
    repo: CachedRepo | None
    revisions: Sequence[Revision]
    spares: Sequence[CachedRepo]
    served_with: Sequence[str]
    reading: str
    code: str
    figures: Sequence[tuple[str, str]]
    requests: DayPlot
    tokens: DayPlot
    loads: Sequence[LoadTime]

    @property
    def is_used(self) -> bool:
        return not self.requests.is_empty

    @property
    def damaged(self) -> Sequence[tuple[str, str]]:
        """Bad files with the reason."""
        return [(str(each["name"]), str(each["reason"]).replace("_", " ")) for each in self.model.damaged]

    @property
    def chip(self) -> SafeString:
        return chip_of(self.model)

    @property
    def bar(self) -> SafeString | str:
        return progress_bar(self.open_job) if self.open_job else ""


def read_page(model: ModelRegistry) -> ModelPage:
    """In a fixed number of queries."""
    path, stats, days = services.cache_path_of(model), stats_of(model), days_of(model)
    repos = list(CachedRepo.objects.filter(folder=repo_folder(model.hf_path)).select_related("cache"))
    repo = next((repo for repo in repos if repo.cache.path == path), None)
    jobs = list(model.jobs.select_related("source", "target", "model").order_by("-pk")[:_JOBS_SHOWN])
    return ModelPage(
        model=model,
        place=_PLACES.get(model.cache_location, model.cache_location),
        path=path,
        buttons=_buttons(model),
        open_job=next((job for job in jobs if job.is_open), None),
        jobs=jobs,
        repo=repo,
        revisions=tuple(_revisions(repo, served=model.revision)),
        spares=[each for each in repos if each is not repo],
        served_with=_served_with(model, path=path),
        reading=checkups.describe_reading(model),
        code=remote_code.describe(model),
        figures=tuple(figure_lines(stats)),
        requests=_requests(days),
        tokens=_tokens(days),
        loads=tuple(_load_times(stats.loads)),
    )


def _buttons(model: ModelRegistry) -> list[Button]:
    seconds = expected_seconds(model)
    return choose_buttons(
        model.status,
        is_pinned=model.pinned,
        has_commit=bool(model.revision),
        is_damaged=bool(model.damaged),
        load_hint="" if seconds is None else f"about {format_duration(max(1.0, seconds))}",
    )


def _revisions(repo: CachedRepo | None, *, served: str) -> Iterator[Revision]:
    """The one that is served comes first."""
    reports = [RevisionReport(**each) for each in repo.revisions] if repo else []
    for report in sorted(reports, key=lambda each: (each.commit != served, each.commit)):
        yield Revision(report, is_served=report.commit == served)


def _served_with(model: ModelRegistry, *, path: str) -> list[str]:
    others = ModelRegistry.objects.filter(hf_path=model.hf_path).exclude(pk=model.pk)
    return [other.model_name for other in others if services.cache_path_of(other) == path]


def _requests(days: Sequence[Day]) -> DayPlot:
    numbers = [(day.uses, day.errors) for day in days]
    return draw_days(numbers, first=days[0].date, lower="answered", upper="failed")


def _tokens(days: Sequence[Day]) -> DayPlot:
    numbers = [(day.prompt_tokens, day.completion_tokens) for day in days]
    return draw_days(numbers, first=days[0].date, lower="tokens read", upper="written")


def _load_times(loads: Sequence[LoadsFrom]) -> Iterator[LoadTime]:
    slowest = max((each.median_seconds for each in loads), default=0.0)
    for each in loads:
        times = "1 load" if each.count == 1 else f"median of {each.count} loads"
        yield LoadTime(
            place=_PLACES.get(each.cache_location, "Unknown place"),
            path=each.cache_path,
            words=f"{_seconds(each.median_seconds)} ({times})",
            width=round(100 * each.median_seconds / slowest, 1) if slowest else 0.0,
        )


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else format_duration(seconds)
