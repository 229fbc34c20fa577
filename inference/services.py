"""What may be served, and the pool that serves it."""

from typing import Any

from inference.errors import NoPool
from inference.pool import EnginePool
from inference.slots import Slot
from registry.models import ModelRegistry


def pool_of(request: Any) -> EnginePool:
    """The one pool: the ASGI server hands it to every request in its lifespan state."""
    pool = getattr(request, "scope", {}).get("state", {}).get("pool")
    if pool is None:
        raise NoPool("Engines run in the web process only. Start it with script/server.")
    return pool  # type: ignore[no-any-return]


def list_servable() -> list[ModelRegistry]:
    return list(ModelRegistry.objects.servable())


def describe_servable(model: ModelRegistry, *, state: str) -> dict[str, Any]:
    """A model as `/v1/models` lists it."""
    return {
        "id": model.model_name,
        "object": "model",
        "created": int(model.created_at.timestamp()),
        "owned_by": model.hf_path.partition("/")[0],
        "context_length": model.context_length,
        "max_model_len": model.context_length,
        "status": {"value": state},
    }


def describe_slot(slot: Slot) -> dict[str, Any]:
    """A model in memory, or on its way there, as `/api/ps` lists it."""
    facts = slot.engine.facts if slot.engine else {}
    return {
        "model": slot.model_name,
        "status": "loaded" if slot.stage == "ready" else "loading",
        "stage": slot.stage,
        "requests": slot.in_flight,
        "memory_bytes": slot.memory_bytes,
        "load_seconds": round(slot.load_seconds, 2),
        "cache_path": str(slot.located.snapshot_path) if slot.located else "",
        "device": facts.get("device", ""),
        "dtype": facts.get("dtype", ""),
        "context_length": facts.get("context_length"),
    }
