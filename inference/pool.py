"""The engine pool: models come when they are asked for and leave when they are idle. One pool, in the web process.

    async with pool.use("llama-3-8b") as engine: ...

holds the model for the length of the block: it is not unloaded while anybody is in one. The load is a task of its own,
so it goes on when the client that asked first has left, and everybody who asks meanwhile waits for the same one.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import psutil
from asgiref.sync import sync_to_async
from django.conf import settings

from cachemgr.units import format_bytes
from inference.errors import InsufficientMemory, ModelBusy, Overloaded
from inference.process import EnginePlan, EngineProcess
from inference.scheduler import Resident, memory_needed, plan_admission
from registry.locating import LocatedModel, locate, note_use
from registry.models import ModelRegistry
from registry.services import get_model

logger = logging.getLogger(__name__)

_REAP_SECONDS = 1.0
FOR_EVER = -1.0
_numbers = itertools.count(1)
"""A socket's name is never used twice: a new engine may start while an old one of the same model still stops."""


@dataclass
class Slot:
    """A model on its way into memory, or in it. queued -> reading -> ready; a failed one leaves the pool."""

    model_name: str
    keep_alive_seconds: float
    stage: str = "queued"
    in_flight: int = 0
    idle_since: float = field(default_factory=time.monotonic)
    memory_bytes: int = 0
    load_seconds: float = 0.0
    located: LocatedModel | None = None
    engine: EngineProcess | None = None
    loading: "asyncio.Task[EngineProcess] | None" = None
    watching: "asyncio.Task[None] | None" = None

    @property
    def is_pinned(self) -> bool:
        return self.located is not None and self.located.is_pinned

    @property
    def is_overdue(self) -> bool:
        idle = self.in_flight == 0 and self.stage == "ready" and not self.is_pinned
        limit = self.keep_alive_seconds
        return idle and limit != FOR_EVER and time.monotonic() - self.idle_since >= limit

    def as_resident(self) -> Resident:
        in_flight = self.in_flight if self.stage == "ready" else max(1, self.in_flight)
        return Resident(self.model_name, self.memory_bytes, in_flight, self.is_pinned, self.idle_since)


class EnginePool:
    def __init__(self, *, keep_alive_seconds: float, max_requests: int) -> None:
        self.keep_alive_seconds = keep_alive_seconds
        self.max_requests = max_requests
        self.slots: dict[str, Slot] = {}
        self.changed = asyncio.Event()
        self.admitting = asyncio.Lock()
        self.background: set[asyncio.Task[Any]] = set()

    @classmethod
    def from_settings(cls) -> Self:
        return cls(keep_alive_seconds=settings.KEEP_ALIVE_SECONDS, max_requests=settings.MAX_QUEUED_REQUESTS)

    async def start(self) -> None:
        self._spawn(self._reap())

    async def close(self) -> None:
        tasks = [*self.background, *(slot.loading for slot in self.slots.values() if slot.loading)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop(slot) for slot in list(self.slots.values())))

    @asynccontextmanager
    async def use(self, name: str, *, keep_alive_seconds: float | None = None) -> AsyncIterator[EngineProcess]:
        """Loads the model if need be and holds it. Raises UnknownModel, ModelNotDownloaded, Overloaded, ..."""
        model = await sync_to_async(get_model)(name)
        if sum(slot.in_flight for slot in self.slots.values()) >= self.max_requests:
            raise Overloaded(
                f"{self.max_requests} requests are being answered or wait already. Try again in a few seconds."
            )
        slot = self._slot(model)
        if keep_alive_seconds is not None:
            slot.keep_alive_seconds = keep_alive_seconds
        slot.in_flight += 1
        try:
            assert slot.loading is not None
            yield await asyncio.shield(slot.loading)
            self._spawn(sync_to_async(note_use)(model.pk))
        finally:
            slot.in_flight -= 1
            slot.idle_since = time.monotonic()
            self.changed.set()

    async def load(self, name: str) -> Slot:
        async with self.use(name):
            return self.slots[(await sync_to_async(get_model)(name)).model_name]

    async def unload(self, name: str) -> bool:
        """False when it was not loaded. Raises ModelBusy while it answers requests."""
        model = await sync_to_async(get_model)(name)
        slot = self.slots.get(model.model_name)
        if slot is None:
            return False
        if slot.in_flight:
            raise ModelBusy(f"{model} is answering {slot.in_flight} requests. Unload it when they are done.")
        await self._stop(slot)
        return True

    def state_of(self, model_name: str) -> str:
        """loaded, loading or unloaded: the words that llama.cpp's clients know."""
        slot = self.slots.get(model_name)
        if slot is None:
            return "unloaded"
        return "loaded" if slot.stage == "ready" else "loading"

    def _slot(self, model: ModelRegistry) -> Slot:
        slot = self.slots.get(model.model_name)
        if slot is None:
            slot = Slot(model.model_name, self.keep_alive_seconds)
            slot.loading = asyncio.create_task(self._load(slot, model))
            slot.loading.add_done_callback(lambda task: self._settle(slot, task))
            self.slots[model.model_name] = slot
        return slot

    def _settle(self, slot: Slot, task: "asyncio.Task[EngineProcess]") -> None:
        """A failed load leaves the pool, so that the next request tries again."""
        if task.cancelled() or task.exception() is not None:
            self._forget(slot)
        self.changed.set()

    async def _load(self, slot: Slot, model: ModelRegistry) -> EngineProcess:
        started = time.monotonic()
        slot.located = await sync_to_async(locate, thread_sensitive=False)(model)
        await self._make_room(slot, slot.located)
        slot.stage = "reading"
        engine = await EngineProcess.start(self._plan(slot.located))
        slot.engine = engine
        try:
            await engine.wait_until_ready()
        except BaseException:
            await engine.stop()
            raise
        slot.load_seconds = time.monotonic() - started
        slot.stage, slot.idle_since = "ready", time.monotonic()
        slot.watching = self._spawn(self._watch(slot))
        logger.info("Loaded %s from %s in %.1f s", model, slot.located.snapshot_path, slot.load_seconds)
        return engine

    def _plan(self, located: LocatedModel) -> EnginePlan:
        return EnginePlan(
            model_name=located.model_name,
            snapshot_path=located.snapshot_path,
            socket_path=settings.RUNTIME_DIR / f"engine-{located.pk}-{next(_numbers)}.sock",
            log_path=settings.DATA_DIR / "logs" / f"engine-{located.pk}.log",
            project_path=settings.BASE_DIR,
        )

    async def _make_room(self, slot: Slot, located: LocatedModel) -> None:
        """Waits its turn, and for memory; others leave for it where the plan says so."""
        needed = memory_needed(located.size_bytes)
        async with self.admitting:
            while True:
                self.changed.clear()
                residents = [
                    each.as_resident() for each in self.slots.values() if each is not slot and each.memory_bytes
                ]
                available = self._available_bytes()
                plan = plan_admission(needed_bytes=needed, available_bytes=available, residents=residents)
                if plan.verdict == "admit":
                    break
                if plan.verdict == "refuse":
                    raise InsufficientMemory(
                        f"{located.model_name} needs about {format_bytes(needed)} of memory, "
                        f"and {format_bytes(available)} are free. "
                        "Unload other models, or choose a smaller one."
                    )
                await self.changed.wait()
            for name in plan.evict:
                await self._stop(self.slots[name])
            slot.memory_bytes = needed

    def _available_bytes(self) -> int:
        """What is free, less what models on their way in were promised but have not taken yet."""
        promised = sum(slot.memory_bytes for slot in self.slots.values() if slot.stage == "reading")
        return psutil.virtual_memory().available - promised

    async def _stop(self, slot: Slot) -> None:
        self._forget(slot)
        if slot.watching is not None:
            slot.watching.cancel()
        if slot.loading is not None and not slot.loading.done():
            slot.loading.cancel()
            await asyncio.gather(slot.loading, return_exceptions=True)
        elif slot.engine is not None:
            await slot.engine.stop()
            logger.info("Unloaded %s", slot.model_name)
        self.changed.set()

    def _forget(self, slot: Slot) -> None:
        if self.slots.get(slot.model_name) is slot:
            del self.slots[slot.model_name]

    async def _watch(self, slot: Slot) -> None:
        """An engine that dies leaves the pool; the next request loads the model again."""
        assert slot.engine is not None
        status = await slot.engine.process.wait()
        logger.error("The engine of %s died (%s): %s", slot.model_name, status, slot.engine.last_words())
        self._forget(slot)
        await slot.engine.stop()
        self.changed.set()

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(_REAP_SECONDS)
            for slot in [each for each in self.slots.values() if each.is_overdue]:
                await self._stop(slot)

    def _spawn(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task
