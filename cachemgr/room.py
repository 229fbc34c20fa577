"""Who could leave a cache. The cache manager knows no models, so it asks whoever listens above."""

from typing import Any

from django.db.models import Model
from django.dispatch import Signal

from cachemgr.space import Candidate

room_wanted = Signal()
"""Sent with `cache`. A receiver answers a list of Candidate: what may leave that cache without being missed now."""


def candidates_in(cache: Model) -> list[Candidate]:
    answers: list[tuple[Any, Any]] = room_wanted.send(sender=type(cache), cache=cache)
    return [candidate for _, found in answers for candidate in found]
