"""Where a model should go, and what would help where it does not fit. Pure: verdicts in, advice out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from cachemgr.space import Candidate, Rules, Verdict, limit_that_fits
from cachemgr.units import MB, format_bytes, format_duration, format_percent

Speeds = Mapping[str, int | None]  # bytes per second by location, None where nobody measured yet

_MUCH_FASTER = 2.0


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`verdict` is the best cache's, None where it fits nowhere. `verdicts` come as asked, `ranking` best first."""

    verdict: Verdict | None
    reason: str
    verdicts: tuple[Verdict, ...]
    ranking: tuple[Verdict, ...]

    @property
    def location(self) -> str | None:
        return self.verdict.figures.location if self.verdict else None

    @property
    def would_make_room(self) -> tuple[Candidate, ...]:
        """Where it fits nowhere: the models to remove, of the first cache in which that would do."""
        ways = (each.would_make_room for each in self.ranking if each.would_make_room)
        return next(ways, ()) if self.verdict is None else ()


def recommend(verdicts: Sequence[Verdict], *, speeds: Speeds) -> Recommendation:
    """Weighs the caches for one model.

    1. A cache in which it fits calmly is before one that would then be above the warning threshold, and that one is
       before one that has no room.
    2. Of two in which it fits alike, the one given first is the better, unless the other is measured to read at least
       twice as fast.
    """
    ranking = tuple(_ranked(list(verdicts), speeds=speeds))
    best = next((verdict for verdict in ranking[:1] if verdict.sufficient), None)
    if best is None:
        return Recommendation(None, _why_nowhere(ranking), tuple(verdicts), ranking)
    return Recommendation(best, _why(best, ranking[1:], speeds=speeds), tuple(verdicts), ranking)


def _ranked(waiting: list[Verdict], *, speeds: Speeds) -> Iterator[Verdict]:
    while waiting:
        best = reduce(lambda first, other: other if _beats(other, first, speeds=speeds) else first, waiting)
        waiting.remove(best)
        yield best


def _beats(other: Verdict, first: Verdict, *, speeds: Speeds) -> bool:
    if _rank(other) != _rank(first):  # 1.
        return _rank(other) < _rank(first)
    return other.sufficient and _times_faster(other, first, speeds=speeds) >= _MUCH_FASTER  # 2.


def _rank(verdict: Verdict) -> int:
    return 2 if not verdict.sufficient else 1 if verdict.warning else 0


def _times_faster(other: Verdict, first: Verdict, *, speeds: Speeds) -> float:
    """0 where one of them was not measured."""
    theirs, ours = speeds.get(other.figures.location), speeds.get(first.figures.location)
    return theirs / ours if theirs and ours else 0.0


def _why(best: Verdict, others: Sequence[Verdict], *, speeds: Speeds) -> str:
    against = [_against(other, best, speeds=speeds) for other in others]
    return " ".join([_praise(best), _load_time(best, speeds=speeds) + ".", *against])


def _praise(best: Verdict) -> str:
    if best.warning:
        return best.message
    needed, free = format_bytes(best.required_bytes), format_percent(max(0.0, 1 - best.projected_usage))
    return f"{needed} fit the {best.figures.location} cache, and {free} of it stay free."


def _load_time(verdict: Verdict, *, speeds: Speeds) -> str:
    name, speed = f"the {verdict.figures.location} cache", speeds.get(verdict.figures.location)
    if not speed:
        return f"How fast {name} reads is not measured yet"
    seconds = verdict.required_bytes / speed
    duration = "under a second" if seconds < 1 else f"about {format_duration(seconds)}"
    return f"T{name[1:]} loads them in {duration} ({format_bytes(speed)}/s)"


def _against(other: Verdict, best: Verdict, *, speeds: Speeds) -> str:
    if _rank(other) != _rank(best):
        return other.message
    is_faster = _times_faster(other, best, speeds=speeds) > 1
    return _load_time(other, speeds=speeds) + (", which is not twice as fast." if is_faster else ".")


def _why_nowhere(verdicts: Sequence[Verdict]) -> str:
    sentences = [verdict.message for verdict in verdicts]
    emptied = [_given_way(each) for each in verdicts if _would_give_way(each)]
    ways = [
        f"It would if {_names(each)} left the {each.figures.location} cache."
        for each in verdicts
        if each.would_make_room
    ]
    return " ".join(["It fits nowhere now.", *sentences, *emptied, *ways])


def _would_give_way(verdict: Verdict) -> bool:
    """Whether the trash would be emptied by itself: for bytes, where it has enough."""
    return verdict.limiting_factor in {"limit", "disk"} and verdict.in_trash.freed_bytes >= verdict.shortfall_bytes


def _given_way(verdict: Verdict) -> str:
    name = f"the {verdict.figures.location} cache"
    frees = format_bytes(verdict.in_trash.freed_bytes)
    return f"It would if the trash of {name} were emptied, as registering it there does: that frees {frees}."


@dataclass(frozen=True, slots=True)
class WayOut:
    """What the user can do now. `action`: choose_cache, empty_trash, move, raise_limit, remove or free_space."""

    action: str
    sentence: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"action": self.action, **self.values, "sentence": self.sentence}


def ways_out(verdict: Verdict, *, elsewhere: Sequence[Verdict], moved: Sequence[Verdict], rules: Rules) -> list[WayOut]:
    """What would help about bytes that do not fit. `elsewhere` judges them in other caches; `moved` judges there the
    models whose leaving would make room here."""
    ways = [_choose(other.figures.location) for other in elsewhere if other.sufficient]
    if verdict.in_trash.freed_bytes:
        ways.append(_empty_trash(verdict))
    ways += [_move(verdict, to=other.figures.location) for other in moved if other.sufficient][:1]
    limit_bytes = limit_that_fits(verdict, rules=rules)
    if limit_bytes is not None:
        ways.append(_raise_limit(verdict, limit_bytes=limit_bytes))
    free = WayOut("free_space", "Remove models or files that are not needed there.")
    return [*ways, _remove(verdict) if verdict.would_make_room else free]


def _choose(location: str) -> WayOut:
    return WayOut("choose_cache", f"They fit the {location} cache.", {"cache_location": location})


def _empty_trash(verdict: Verdict) -> WayOut:
    """For inodes it may be enough: nobody counted them."""
    lying, is_enough = verdict.in_trash, _would_give_way(verdict) or verdict.limiting_factor == "inodes"
    part = "" if is_enough else f" of the {format_bytes(verdict.shortfall_bytes)} that are lacking"
    sentence = f"Empty the trash there: that frees {format_bytes(lying.freed_bytes)}{part}."
    return WayOut("empty_trash", sentence, {"entries": list(lying.entries), "frees_bytes": lying.freed_bytes})


def _move(verdict: Verdict, *, to: str) -> WayOut:
    values = _leaving(verdict)
    sentence = f"Move {_names(verdict)} to the {to} cache: that frees {format_bytes(values['frees_bytes'])}."
    return WayOut("move", sentence, {"cache_location": to, **values})


def _remove(verdict: Verdict) -> WayOut:
    values = _leaving(verdict)
    sentence = f"Remove {_names(verdict)}: that frees {format_bytes(values['frees_bytes'])}."
    return WayOut("remove", sentence, values)


def _leaving(verdict: Verdict) -> dict[str, Any]:
    names = [candidate.name for candidate in verdict.would_make_room]
    return {"models": names, "frees_bytes": sum(candidate.size_bytes for candidate in verdict.would_make_room)}


def _raise_limit(verdict: Verdict, *, limit_bytes: int) -> WayOut:
    setting = f"{verdict.figures.location.upper()}_CACHE_LIMIT_GB"
    limit_gb = (limit_bytes // MB + 1) / 1000  # up to the next MB
    sentence = f"Raise {setting} in .env to {limit_gb:.10g} or more, and start again: the disk has room."
    return WayOut("raise_limit", sentence, {"setting": setting, "limit_gb": limit_gb})


def _names(verdict: Verdict) -> str:
    *first, last = [candidate.name for candidate in verdict.would_make_room]
    return f"{', '.join(first)} and {last}" if first else last
