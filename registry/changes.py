"""What a PATCH, the admin's form and its actions change of a model. Another place is never a silent edit."""

from typing import Any

from cachemgr import services as caches
from cachemgr.models import Cache
from homelab import audit
from registry import moves, services, serving
from registry.models import Job, ModelRegistry


def change(model: ModelRegistry, values: dict[str, Any]) -> Job | None:
    """`values`: cache_location, cache_path, pinned, and what serving.COLUMNS names; checked already. Answers the job of
    a move that this begins."""
    job = _replace(model, values) if "cache_location" in values or "cache_path" in values else None
    columns = {name: values[name] for name in ("pinned", *serving.COLUMNS) if name in values}
    news = {name: value for name, value in columns.items() if value != getattr(model, name)}
    if news:
        for name, value in news.items():
            setattr(model, name, value)
        model.save(update_fields=list(news))
        audit.record_change(model, f"{', '.join(f'{name} is {value!r} now' for name, value in news.items())}.")
    return job


def describe(model: ModelRegistry, job: Job | None) -> str:
    """What `change` did about the place, as a sentence."""
    if job is not None and job.target is not None:
        return f"{model} goes to {job.target.path}. It stays usable meanwhile."
    return f"{model} belongs in {services.cache_path_of(model)} now: no file had to move."


def _replace(model: ModelRegistry, values: dict[str, Any]) -> Job | None:
    """Files move; without files the promise of space does."""
    location = values.get("cache_location", model.cache_location)
    path = values.get("cache_path") or model.cache_path if location == Cache.Location.CUSTOM else None
    target = caches.find_cache(location, path=path)
    if target.path == services.cache_path_of(model):
        return None
    if model.status in services.WITHOUT_FILES:
        services.relocate(model, cache_location=location, cache_path=path)
        return None
    return moves.request_move(model, cache_location=location, cache_path=path)
