"""What may be served, the pool that serves it, and what it says about itself."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from asgiref.sync import async_to_sync

from homelab import audit
from homelab.durations import FOR_EVER
from inference.errors import NoPool
from inference.pool import EnginePool
from inference.slots import Slot
from inference.stages import Stage
from registry.models import ModelRegistry

STATUSES = ("loaded", "loading", "leaving", "unloaded", "failed")


def pool_of(request: Any) -> EnginePool:
    """The one pool: the ASGI server hands it to every request in its lifespan state."""
    pool = getattr(request, "scope", {}).get("state", {}).get("pool")
    if pool is None:
        raise NoPool("Engines run in the web process only. Start it with script/server.")
    return pool  # type: ignore[no-any-return]


# By hand


def load(model: ModelRegistry, *, pool: EnginePool, wait_seconds: float | None = None) -> Slot:
    """Waits until it is in memory; the load goes on after a TimeoutError. Raises what `pool.load` raises."""
    _note_wish(model)
    return async_to_sync(_load)(model.model_name, pool, wait_seconds)


def begin_to_load(model: ModelRegistry, *, pool: EnginePool) -> None:
    """Raises what `pool.find` raises."""
    _note_wish(model)
    async_to_sync(pool.find)(model.model_name, is_by_hand=True)


def unload(model: ModelRegistry, *, pool: EnginePool, by_force: bool = False) -> bool:
    """False when it was not loaded. Raises ModelBusy."""
    was_loaded = async_to_sync(pool.unload)(model.model_name, by_force=by_force)
    if was_loaded:
        audit.record_change(model, f"Taken out of memory by hand{', by force' if by_force else ''}.")
    return was_loaded


def _note_wish(model: ModelRegistry) -> None:
    audit.record_change(model, "A load into memory was asked for by hand.")


async def _load(name: str, pool: EnginePool, wait_seconds: float | None) -> Slot:
    async with asyncio.timeout(wait_seconds):
        return await pool.load(name)


# What it says


def list_servable() -> list[ModelRegistry]:
    return list(ModelRegistry.objects.servable())


def describe_servable(model: ModelRegistry, *, pool: EnginePool) -> dict[str, Any]:
    """A model as `/v1/models` lists it."""
    return {
        "id": model.model_name,
        "object": "model",
        "created": int(model.created_at.timestamp()),
        "owned_by": model.hf_path.partition("/")[0],
        "context_length": model.context_length,
        "max_model_len": model.context_length,
        "status": _status_for_routers(model.model_name, pool=pool),
    }


def _status_for_routers(name: str, *, pool: EnginePool) -> dict[str, Any]:
    """In llama.cpp's words: loaded, loading, or unloaded, perhaps `failed`."""
    state = pool.state_of(name)
    return {"value": "unloaded", "failed": True} if state == "failed" else {"value": state}


def list_presences(pool: EnginePool) -> list[dict[str, Any]]:
    """The models in memory, and those on their way there or out of it. One that is loaded anew while its old engine
    ends its answers is there twice: `leaving` first."""
    residents = pool.residents
    return [describe_slot(slot, pool=pool) for slot in [*residents.leaving, *residents.slots.values()]]


def describe_presence(name: str, *, pool: EnginePool) -> dict[str, Any]:
    """One model, also one that is not in memory; `reason` says why it failed last."""
    residents = pool.residents
    leaving = next((slot for slot in residents.leaving if slot.model_name == name), None)
    slot = residents.slots.get(name, leaving)
    if slot is not None:
        return describe_slot(slot, pool=pool)
    error = pool.tender.last_errors.get(name)
    absent = _describe(Slot(name), status=pool.state_of(name), stage=Stage(reason=error.message if error else ""))
    return absent | {"stage": "", "since": None}


def answer_presence(*, model: ModelRegistry, request: Any, **_: Any) -> dict[str, Any] | None:
    """Receives the registry's `presence_asked`."""
    try:
        return describe_presence(model.model_name, pool=pool_of(request))
    except NoPool:
        return None


def describe_slot(slot: Slot, *, pool: EnginePool) -> dict[str, Any]:
    if slot in pool.residents.leaving:
        return _describe(slot, status="leaving", stage=slot.stage)
    stay = slot.stay(default_seconds=pool.reaper.keep_alive_seconds)
    described = _describe(slot, status="loaded" if slot.is_ready else "loading", stage=slot.stage)
    return described | {"keep_alive_seconds": stay, "unloads_at": _unloads_at(slot, stay_seconds=stay)}


def _describe(slot: Slot, *, status: str, stage: Stage) -> dict[str, Any]:
    facts = slot.engine.facts if slot.engine else {}
    return {
        "model": slot.model_name,
        "status": status,
        **stage.to_json(),
        "since": _moment(slot.stage_began_at),
        "requests": slot.in_flight,
        "memory_bytes": slot.memory_bytes,
        "load_seconds": round(slot.load_seconds, 2),
        "cache_path": str(slot.located.snapshot_path) if slot.located else "",
        "device": facts.get("device", ""),
        "dtype": facts.get("dtype", ""),
        "context_length": facts.get("context_length"),
        "backend": facts.get("backend", ""),
        "backend_reason": facts.get("backend_reason", ""),
        "exposures": facts.get("exposures", []),
        "keep_alive_seconds": None,
        "unloads_at": None,
    }


def _unloads_at(slot: Slot, *, stay_seconds: float) -> str | None:
    """None while it is in use, or stays."""
    if not slot.is_ready or slot.in_flight or slot.is_pinned or stay_seconds == FOR_EVER:
        return None
    return _moment(slot.idle_from + stay_seconds)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
