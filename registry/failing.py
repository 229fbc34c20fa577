"""A model whose files are there, and which cannot be served all the same."""

from homelab.database import outside_requests
from registry.models import ModelRegistry


@outside_requests
def mark_failed(pk: int, error: str) -> None:
    """For one that was ready. It is ready again when it is loaded again: see locating.hold."""
    ready = ModelRegistry.objects.filter(pk=pk, status=ModelRegistry.Status.READY)
    ready.update(status=ModelRegistry.Status.FAILED, error=error)
