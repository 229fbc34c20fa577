"""A job as the Jobs page shows it: which words, colours and buttons. Pure but for the clock: values of a row in, a card
out."""

from dataclasses import dataclass
from datetime import datetime

from cachemgr.models import Cache
from cachemgr.stats import name_of
from cachemgr.units import format_bytes, format_duration
from registry.job_words import facts_of
from registry.models import Job

Kind, State = Job.Kind, Job.State


@dataclass(frozen=True, slots=True)
class Sign:
    """A word with its icon and its colour."""

    words: str
    icon: str
    color: str = "grey"


@dataclass(frozen=True, slots=True)
class Advice:
    """What helps against an error, and the page where it is done."""

    words: str
    button: str
    route: str


@dataclass(frozen=True, slots=True)
class Place:
    name: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class JobCard:
    """`percent` is None where a bar says nothing. `cancel_means` says what a cancel would do, "" where there is no way
    back. `trash_until`: what a removal took away can come back until then. `began_at`: when it was asked for, where it
    did not begin yet."""

    pk: int
    kind: Sign
    model_name: str
    model_pk: int | None
    places: tuple[Place, ...]
    state: Sign
    percent: float | None
    facts: str
    trouble: str
    advice: Advice | None
    cancel_means: str
    may_retry: bool
    may_repair: bool
    trash_until: datetime | None
    began_at: datetime
    has_begun: bool
    ended_at: datetime | None
    details: tuple[tuple[str, str], ...]
    moments: tuple[tuple[str, datetime], ...]
    kept: tuple[str, ...]


KINDS = {
    Kind.DOWNLOAD: Sign("Download", "download"),
    Kind.MOVE: Sign("Move", "drive_file_move"),
    Kind.VERIFY: Sign("Verification", "fact_check"),
    Kind.REPAIR: Sign("Repair", "build"),
    Kind.REMOVE: Sign("Removal", "delete"),
}
_STATES = {
    State.QUEUED: Sign("Waiting", "schedule"),
    State.RUNNING: Sign("Running", "sync", "blue"),
    State.DONE: Sign("Done", "check_circle", "green"),
    State.FAILED: Sign("Failed", "error", "red"),
    State.CANCELLED: Sign("Cancelled", "cancel"),
}
_ENDING = Sign("Ending", "hourglass_top", "yellow")
_TRIES_AGAIN = Sign("Tries again", "hourglass_top", "yellow")
_DONE_BUT = Sign("Done, with a note", "check_circle", "yellow")
_WAY_BACK = {
    Kind.DOWNLOAD: "Cancel stops it and removes what came so far.",
    Kind.VERIFY: "Cancel stops reading. No file is changed.",
    Kind.REPAIR: "Cancel stops it and removes what came so far.",
}
_ROOM = Advice("Free some room, or choose another cache for the model.", "Clean up", "clean-page")
_DRIVE = Advice("The Settings page says what this drive needs.", "Look at the drive", "settings-page")
_ADVICE = {
    "insufficient_space": _ROOM,
    "size_exceeds_reservation": _ROOM,
    "cache_unavailable": _DRIVE,
    "drive_read_only": _DRIVE,
    "not_a_drive": _DRIVE,
    "source_failed": _DRIVE,
}


def make_card(job: Job) -> JobCard:
    """Of a row that `for_display` read: it asks the database nothing."""
    return JobCard(
        pk=job.pk,
        kind=KINDS[Kind(job.kind)],
        model_name=job.title,
        model_pk=job.model_id,
        places=_places(job),
        state=_sign(job),
        percent=job.percent if _has_bar(job) else None,
        facts=facts_of(job) if job.is_open else "",
        trouble="" if job.is_open else job.error_message,
        advice=_ADVICE.get(job.error_code) if job.state != State.DONE else None,
        cancel_means=_cancel_means(job),
        may_retry=job.state in {State.FAILED, State.CANCELLED} and job.model_id is not None,
        may_repair=_may_repair(job),
        trash_until=job.trashed.goes_at if job.trashed is not None and job.trash is not None else None,
        began_at=job.started_at or job.created_at,
        has_begun=job.started_at is not None,
        ended_at=job.finished_at,
        details=tuple(_details(job)),
        moments=tuple(_moments(job)),
        kept=tuple(job.kept),
    )


def _has_bar(job: Job) -> bool:
    """It runs or did run, it goes on, and it is known how much there is to do."""
    return (
        job.is_open and not job.shall_end and job.bytes_total > 0 and (job.state == State.RUNNING or job.bytes_done > 0)
    )


def _sign(job: Job) -> Sign:
    if job.is_open and job.shall_end:
        return _ENDING
    if job.state == State.QUEUED and job.error_message:
        return _TRIES_AGAIN
    if job.state == State.DONE and (job.error_message or job.kept):
        return _DONE_BUT
    return _STATES[State(job.state)]


def _places(job: Job) -> tuple[Place, ...]:
    """From where to where; one place for what stays there."""
    hub = [Place("the Hub")] if job.kind in Job.FROM_HUB else []
    return tuple(hub + [_place(cache) for cache in (job.source, job.target) if cache is not None])


def _place(cache: Cache) -> Place:
    return Place(name_of(cache), cache.path)


def _cancel_means(job: Job) -> str:
    if not job.is_open or job.cancel_requested or job.committed:
        return ""
    if job.kind == Kind.MOVE:
        stays = f" The model stays in {name_of(job.source)}." if job.source else ""
        return f"Cancel stops it and removes the copy.{stays}"
    return _WAY_BACK.get(Kind(job.kind), "")


def _may_repair(job: Job) -> bool:
    """A check that found bad files: trying it again would find them again."""
    return job.kind == Kind.VERIFY and job.error_code == "hash_mismatch" and job.model_id is not None


def _details(job: Job) -> list[tuple[str, str]]:
    """What stands behind "Details", without the times and without what is empty."""
    seconds = _seconds(job)
    average = job.bytes_done / seconds if seconds and job.attempt <= 1 else 0  # later ones go on where others ended
    facts = {
        "Job": str(job.pk),
        "Repo": job.hf_path,
        "Bytes": f"{format_bytes(job.bytes_done)} of {format_bytes(job.bytes_total)}" if job.bytes_total else "",
        "Took": format_duration(seconds) if seconds is not None else "",
        "On average": f"{format_bytes(average)}/s" if average else "",
        "Attempts": str(job.attempt) if job.attempt else "",
        "Error code": job.error_code,
    }
    return [(name, value) for name, value in facts.items() if value]


def _seconds(job: Job) -> float | None:
    """Of the last attempt."""
    if job.started_at is None or job.finished_at is None:
        return None
    return max(0.0, (job.finished_at - job.started_at).total_seconds())


def _moments(job: Job) -> list[tuple[str, datetime]]:
    moments = {"Asked for": job.created_at, "Began": job.started_at, "Ended": job.finished_at}
    return [(name, moment) for name, moment in moments.items() if moment is not None]
