"""What the records say about a model, in words for its page. Pure."""

from collections.abc import Iterator

from cachemgr.units import format_duration
from inference.stats import ErrorCount, LoadsFrom, Period, Spread, UsageStats

_PLACES = {"primary": "the primary cache", "secondary": "the secondary cache", "custom": "a custom path"}


def figure_lines(stats: UsageStats) -> Iterator[tuple[str, str]]:
    """A label and a sentence for each figure. What is not known yet says so."""
    yield "24 hours", _period(stats.last_24h)
    yield "7 days", _period(stats.last_7d)
    yield "30 days", _period(stats.last_30d)
    yield "First token, in memory", _first_token(stats.first_token_warm)
    yield "First token, with a load", _first_token(stats.first_token_cold)
    yield "Speed", _speed(stats.tokens_per_second)
    yield "Load", "; ".join(_loads(each) for each in stats.loads) or "not measured yet"
    yield "Errors in 30 days", "; ".join(_errors(each) for each in stats.errors) or "none"


def _period(period: Period) -> str:
    if not period.uses and not period.errors:
        return "not used"
    uses = "1 request" if period.uses == 1 else f"{period.uses:,} requests"
    left = f", {period.left:,} of them left by the client" if period.left else ""
    failed = f", {period.errors:,} failed" if period.errors else ""
    return f"{uses}{left}{failed}; {period.prompt_tokens:,} tokens read, {period.completion_tokens:,} written"


def _first_token(spread: Spread) -> str:
    if spread.median is None or spread.p95 is None:
        return "not measured yet"
    return f"{_seconds(spread.median)}; 95 of 100 within {_seconds(spread.p95)} ({_latest(spread.count)})"


def _speed(spread: Spread) -> str:
    if spread.median is None:
        return "not measured yet"
    return f"{spread.median:.1f} tokens per second ({_latest(spread.count)})"


def _loads(loads: LoadsFrom) -> str:
    place = _PLACES.get(loads.cache_location, "an unknown place")
    return f"{_seconds(loads.median_seconds)} from {place} ({loads.cache_path}), median of {loads.count}"


def _errors(error: ErrorCount) -> str:
    return f"{error.code} {error.count:,}, last on {error.last_at:%Y-%m-%d %H:%M} UTC"


def _latest(count: int) -> str:
    return "one request" if count == 1 else f"median of the latest {count}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else format_duration(seconds)
