"""What the owner should hear of once: a level that was crossed, a drive that went away or came back.

A level counts at once on the way up, and on the way down only `CALM` below its line: a cache that sways around a
threshold is one event, not a hundred. Events are rows; webhook.py sends them on.
"""

import logging

from django.conf import settings
from django.db import transaction

from cachemgr import space
from cachemgr.models import Cache, CacheEvent
from cachemgr.space import CacheFigures, Rules
from cachemgr.stats import current_rules, figures_now
from cachemgr.units import format_bytes, format_percent
from homelab.waking import wake

logger = logging.getLogger(__name__)

LADDER = ("green", "yellow", "red", "critical", "over_limit")
CALM = 0.02
PATIENCE_SECONDS = 30.0  # a disk that sleeps takes about ten to answer; until then it is not called unresponsive


def reached_level(usage: float, *, rules: Rules) -> str:
    """The rung of the ladder that so much use is on, 1 is full."""
    if usage > 1:
        return "over_limit"
    return "critical" if usage >= space.CRITICAL_FROM else space.level(usage, rules=rules)


def settled_level(usage: float, *, announced: str, rules: Rules) -> str:
    """The level to speak of. `announced` is the last one that was spoken of, "" for none."""
    reached = reached_level(usage, rules=rules)
    if not announced:
        return reached
    left_at = min(announced, reached_level(usage + CALM, rules=rules), key=LADDER.index)
    return max(reached, left_at, key=LADDER.index)


def settled_state(state: str, *, announced: str, waited_seconds: float) -> str:
    """The state to speak of: not answering within a short wait is no news yet."""
    is_hasty = state == "unresponsive" and waited_seconds < PATIENCE_SECONDS
    return announced if is_hasty else state


def notice(cache: Cache, *, waited_seconds: float) -> list[CacheEvent]:
    """Writes the events of the measurement that is now the cache's latest. Call it in that one's transaction."""
    found = [_notice_state(cache, waited_seconds=waited_seconds), _notice_level(cache)]
    told = [event for event in found if event is not None]
    cache.save(update_fields=["announced_state", "announced_level"])
    if told and settings.CACHE_EVENT_WEBHOOK_URL:
        transaction.on_commit(_wake_sender)
    return told


def _notice_state(cache: Cache, *, waited_seconds: float) -> CacheEvent | None:
    """A state at first sight is no event: the start has told of drives that are not there."""
    assert cache.latest is not None
    before = cache.announced_state
    after = settled_state(cache.latest.state, announced=before, waited_seconds=waited_seconds)
    cache.announced_state = after
    if not before or before == after:
        return None
    return _tell(cache, kind=CacheEvent.Kind.STATE, before=before, sentence=_state_sentence(cache, before=before))


def _state_sentence(cache: Cache, *, before: str) -> str:
    assert cache.latest is not None
    if cache.announced_state == "ok":
        return f"The {cache.location} cache ({cache.path}) is back; it was {before.replace('_', '-')}."
    state = cache.announced_state.replace("_", "-")
    return f"The {cache.location} cache ({cache.path}) is now {state}. {cache.latest.message}".strip()


def _notice_level(cache: Cache) -> CacheEvent | None:
    """Of fresh figures alone. At first sight only red and worse are news."""
    assert cache.latest is not None
    if cache.latest.figures_at != cache.latest.taken_at:
        return None
    before, figures = cache.announced_level, figures_now(cache, cache.latest)
    after = settled_level(figures.usage, announced=before, rules=current_rules())
    cache.announced_level = after
    is_news = before != after if before else LADDER.index(after) >= LADDER.index("red")
    if not is_news:
        return None
    return _tell(cache, kind=CacheEvent.Kind.LEVEL, before=before, sentence=_level_sentence(figures, before, after))


def _level_sentence(figures: CacheFigures, before: str, after: str) -> str:
    change = f"went from {before} to {after}" if before else f"is {after}"
    whole = format_bytes(figures.size_bytes) + ("" if figures.limit_bytes is not None else " of its disk")
    fill = f"{format_bytes(figures.filled_bytes)} of {whole} are used ({format_percent(figures.usage)})"
    sentence = f"The {figures.location} cache ({figures.path}) {change}: {fill}."
    return sentence.replace("over_limit", "over its limit")


def _tell(cache: Cache, *, kind: CacheEvent.Kind, before: str, sentence: str) -> CacheEvent:
    after = cache.announced_state if kind == CacheEvent.Kind.STATE else cache.announced_level
    logger.log(logging.INFO if after in {"ok", "green", "yellow"} else logging.WARNING, "%s", sentence)
    return CacheEvent.objects.create(cache=cache, kind=kind, before=before, after=after, message=sentence)


def _wake_sender() -> None:
    wake("cachemgr.tasks.send_events", expires=55, otherwise="Events are sent within a minute of its return.")
