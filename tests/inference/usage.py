"""What a request comes to, for tests: an answered, warm one unless something else is said."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from inference.models import UsageRecord
from inference.records import Usage
from registry.models import ModelRegistry


def make_usage(model: ModelRegistry | None = None, **values: Any) -> Usage:
    usual = {
        "kind": "request",
        "model_pk": model.pk if model else None,
        "model_name": model.model_name if model else "gone",
        "started_at": timezone.now(),
        "duration_seconds": 2.0,
        "endpoint": "/v1/chat/completions",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "first_token_seconds": 0.25,
        "tokens_per_second": 40.0,
    }
    return Usage(**(usual | values))


def make_model(name: str = "m") -> ModelRegistry:
    return ModelRegistry.objects.create(model_name=name, hf_path=f"org/{name}", status="ready")


def record(model: ModelRegistry, *, ago: timedelta = timedelta(minutes=1), **values: Any) -> UsageRecord:
    """A row as the recorder writes it."""
    usual: dict[str, Any] = {
        "kind": "request",
        "started_at": timezone.now() - ago,
        "duration_seconds": 2.0,
        "status": "ok",
    }
    return UsageRecord.objects.create(model=model, model_name=model.model_name, **(usual | values))


def record_load(model: ModelRegistry, *, path: str, seconds: float, at: datetime, **values: Any) -> UsageRecord:
    place = {"cache_location": "primary", "cache_path": path}
    times = {"started_at": at, "duration_seconds": seconds, "load_seconds": seconds}
    return record(model, kind="load", was_cold=True, **(place | times | values))


def until(is_so: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
