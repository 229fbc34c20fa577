"""Engines that fail again and again: a pause before the next try, and an end to trying. Pure: times are given."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from cachemgr.units import format_duration
from inference.errors import ModelCrashed

WINDOW_SECONDS = 300.0
MOST_CRASHES = 3
_PAUSES_SECONDS = (0.0, 1.0, 5.0)


@dataclass
class _Record:
    """`what` is what was tried: files, place and settings. Something else is a new chance."""

    what: Hashable
    times: list[float] = field(default_factory=list)
    refusal: str = ""


class CrashBook:
    """By model name. A model that crashed three times in five minutes is refused until somebody loads it by hand
    (`forgive`), or until its files, its place or its settings are others."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def note(self, name: str, *, what: Hashable, message: str, now: float) -> str:
        """A crash. Answers the sentence that the model is refused with from now on, or "" while it may try again."""
        record = self._records.get(name)
        if record is None or record.what != what:
            record = self._records[name] = _Record(what)
        record.times = [*_recent(record.times, now=now), now]
        if len(record.times) >= MOST_CRASHES:
            record.refusal = _refusal(name, message)
        return record.refusal

    def check(self, name: str, *, what: Hashable) -> None:
        """Raises ModelCrashed."""
        record = self._records.get(name)
        if record is not None and record.refusal and record.what == what:
            raise ModelCrashed(record.refusal)

    def pause_seconds(self, name: str, *, now: float) -> float:
        """How long the next load has to wait, from now."""
        times = _recent(self._records[name].times, now=now) if name in self._records else []
        if not times:
            return 0.0
        pause = _PAUSES_SECONDS[min(len(times), len(_PAUSES_SECONDS) - 1)]
        return max(0.0, times[-1] + pause - now)

    def refusal_of(self, name: str) -> str:
        """The sentence of a model that is refused, or ""."""
        return self._records[name].refusal if name in self._records else ""

    def note_load(self, name: str) -> None:
        """It is in memory, so it is not refused. Its crashes count on: one that is loaded and crashes is no better."""
        if name in self._records:
            self._records[name].refusal = ""

    def forgive(self, name: str) -> None:
        self._records.pop(name, None)


def _recent(times: list[float], *, now: float) -> list[float]:
    return [time for time in times if now - time < WINDOW_SECONDS]


def _refusal(name: str, last_words: str) -> str:
    return (
        f"{name} failed {MOST_CRASHES} times within {format_duration(WINDOW_SECONDS)} and is not loaded by itself any "
        f"more. The last time: {last_words} Load it by hand (POST /api/models/{name}/load, or the Load button), or "
        "change its settings: then it is tried again."
    )
