"""The requests of the last hour, in one query however many they are."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q, Sum
from django.utils import timezone

from inference.models import UsageRecord
from web.columns import Column, Pair, draw

SPAN = timedelta(minutes=5)
SPANS = 12


@dataclass(frozen=True, slots=True)
class Traffic:
    """`columns` has one for each five minutes, the present ones last."""

    count: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    columns: tuple[Column, ...]

    @property
    def summary(self) -> str:
        """For who cannot see the picture."""
        if not self.count:
            return "No requests in the last hour."
        return "Requests for each five minutes. " + "; ".join(column.words for column in self.columns)


def last_hour(*, now: datetime) -> Traffic:
    begins = _beginnings(now)
    rows = UsageRecord.objects.requests().filter(started_at__gte=begins[0])
    failed, parts = Q(status=UsageRecord.Status.ERROR), {}
    for number, begin in enumerate(begins):
        is_in = Q(started_at__gte=begin, started_at__lt=begin + SPAN)
        parts[f"good_{number}"] = Count("pk", filter=is_in & ~failed)
        parts[f"failed_{number}"] = Count("pk", filter=is_in & failed)
    tokens = {name: Sum(name, default=0) for name in ("prompt_tokens", "completion_tokens")}
    found: dict[str, Any] = rows.order_by().aggregate(**parts, **tokens)
    pairs = [
        _pair(begin, good=found[f"good_{number}"], failed=found[f"failed_{number}"])
        for number, begin in enumerate(begins)
    ]
    return Traffic(
        count=sum(pair.total for pair in pairs),
        failed=sum(pair.upper for pair in pairs),
        prompt_tokens=found["prompt_tokens"],
        completion_tokens=found["completion_tokens"],
        columns=draw(pairs),
    )


def _pair(begin: datetime, *, good: int, failed: int) -> Pair:
    requests = "1 request" if good + failed == 1 else f"{good + failed:,} requests"
    words = f"{timezone.localtime(begin):%H:%M}: {requests}" + (f", {failed:,} failed" if failed else "")
    return Pair(good, failed, words)


def _beginnings(now: datetime) -> list[datetime]:
    """Full five minutes, as a clock shows them."""
    last = now.replace(minute=now.minute // 5 * 5, second=0, microsecond=0)
    return [last - SPAN * number for number in reversed(range(SPANS))]
