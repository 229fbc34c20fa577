"""What the engine of a model does at this moment. The registry knows no engines, so it asks whoever serves above it."""

from typing import Any

from django.db.models import Model
from django.dispatch import Signal

presence_asked = Signal()
"""Sent with `model`, and with the `request` for which it is asked. A receiver answers a dict as /api/ps has them."""


def presence_of(model: Model, *, request: Any) -> dict[str, Any] | None:
    """None where nobody serves."""
    answers: list[tuple[Any, Any]] = presence_asked.send(sender=type(model), model=model, request=request)
    return next((answer for _, answer in answers if answer is not None), None)
