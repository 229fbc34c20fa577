"""A model's requests day by day, for the pictures of its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Count, Q, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from inference.models import UsageRecord
from registry.models import ModelRegistry

DAYS = 30


@dataclass(frozen=True, slots=True)
class Day:
    """`uses` were answered, or left by the client before the end; `errors` were not."""

    date: date
    uses: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def days_of(model: ModelRegistry, *, days: int = DAYS, now: datetime | None = None) -> Sequence[Day]:
    """The oldest first, today last; a day without requests is one of zeros. One query."""
    today = timezone.localtime(now).date()
    first = today - timedelta(days=days - 1)
    rows = UsageRecord.objects.of(model).requests().filter(started_at__gte=_midnight(first)).order_by()
    failed = Q(status=UsageRecord.Status.ERROR)
    counted = (
        rows.annotate(day=TruncDate("started_at"))
        .values_list("day")
        .annotate(
            uses=Count("pk", filter=~failed),
            errors=Count("pk", filter=failed),
            read=Sum("prompt_tokens", default=0),
            written=Sum("completion_tokens", default=0),
        )
    )
    known = {row[0]: Day(*row) for row in counted}
    return [known.get(day, Day(day)) for day in (first + timedelta(days=each) for each in range(days))]


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime(day.year, day.month, day.day))  # noqa: DTZ001  (the next word gives its zone)
