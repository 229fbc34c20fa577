"""A model whose files are there, and which cannot be served all the same."""

from django.db import close_old_connections

from registry.models import ModelRegistry


def mark_failed(pk: int, error: str) -> None:
    """For one that was ready. It is ready again when it is loaded again: see locating.hold. Called outside of requests,
    where nobody else looks after the connection."""
    close_old_connections()
    ready = ModelRegistry.objects.filter(pk=pk, status=ModelRegistry.Status.READY)
    ready.update(status=ModelRegistry.Status.FAILED, error=error)
