"""The engine pool: models come when they are asked for and leave when they are idle. One pool, in the web process.

    async with pool.use("llama-3-8b") as engine: ...

holds the model for the length of the block: it is not unloaded while anybody is in one. The load is a task of its own,
so it goes on when the client that asked first has left, and everybody who asks meanwhile waits for the same one.

An engine reads its files under a shared lock. When the row names another place, requests that run end on the old engine
and new ones load from there; then the old engine goes, and whoever wants to remove the old files can.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import psutil
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import close_old_connections

from cachemgr.units import format_bytes
from inference.errors import InsufficientMemory, ModelBusy, Overloaded
from inference.process import EnginePlan, EngineProcess
from inference.scheduler import memory_needed, plan_admission
from inference.slots import Slot
from registry.locating import HeldModel, LocatedModel, hold, homes_of, note_use
from registry.models import ModelRegistry
from registry.services import get_model

logger = logging.getLogger(__name__)

_REAP_SECONDS = 1.0
_numbers = itertools.count(1)
"""A socket's name is never used twice: a new engine may start while an old one of the same model still stops."""


class EnginePool:
    def __init__(self, *, keep_alive_seconds: float, max_requests: int) -> None:
        self.keep_alive_seconds = keep_alive_seconds
        self.max_requests = max_requests
        self.slots: dict[str, Slot] = {}
        self.leaving: set[Slot] = set()
        self.changed = asyncio.Event()
        self.admitting = asyncio.Lock()
        self.background: set[asyncio.Task[Any]] = set()
        self.endings: set[asyncio.Task[Any]] = set()

    @classmethod
    def from_settings(cls) -> Self:
        return cls(keep_alive_seconds=settings.KEEP_ALIVE_SECONDS, max_requests=settings.MAX_QUEUED_REQUESTS)

    async def start(self) -> None:
        self._spawn(self._reap())

    async def close(self) -> None:
        tasks = [*self.background, *(slot.loading for slot in self.everyone if slot.loading)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop(slot) for slot in self.everyone), *self.endings)

    @property
    def everyone(self) -> list[Slot]:
        """Those that take requests, and those that end theirs at an old place."""
        return [*self.slots.values(), *self.leaving]

    @asynccontextmanager
    async def use(self, name: str, *, keep_alive_seconds: float | None = None) -> AsyncIterator[EngineProcess]:
        """Loads the model if need be and holds it. Raises UnknownModel, ModelNotDownloaded, Overloaded, ..."""
        async with self._join(name, keep_alive_seconds=keep_alive_seconds) as slot:
            assert slot.engine is not None
            yield slot.engine

    async def load(self, name: str) -> Slot:
        async with self._join(name) as slot:
            return slot

    @asynccontextmanager
    async def _join(self, name: str, *, keep_alive_seconds: float | None = None) -> AsyncIterator[Slot]:
        model = await sync_to_async(get_model)(name)
        if sum(slot.in_flight for slot in self.everyone) >= self.max_requests:
            raise Overloaded(
                f"{self.max_requests} requests are being answered or wait already. Try again in a few seconds."
            )
        slot = self._slot(model)
        if keep_alive_seconds is not None:
            slot.keep_alive_seconds = keep_alive_seconds
        slot.in_flight += 1
        try:
            assert slot.loading is not None
            await asyncio.shield(slot.loading)
            yield slot
            self._spawn(sync_to_async(note_use)(model.pk))
        finally:
            slot.in_flight -= 1
            slot.idle_since = time.monotonic()
            self.changed.set()

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
        held = await self._hold(model)
        slot.located, slot.lock = held.located, held.lock
        try:
            await self._make_room(slot, slot.located)
            slot.stage = "reading"
            slot.engine = await EngineProcess.start(self._plan(slot.located), inherits=[held.lock.descriptor])
            await slot.engine.wait_until_ready()
        except BaseException:
            await slot.end()
            raise
        slot.load_seconds = time.monotonic() - started
        slot.stage, slot.idle_since = "ready", time.monotonic()
        slot.watching = self._spawn(self._watch(slot))
        logger.info("Loaded %s from %s in %.1f s", model, slot.located.snapshot_path, slot.load_seconds)
        return slot.engine

    async def _hold(self, model: ModelRegistry) -> HeldModel:
        """A thread cannot be cancelled: what it found for nobody is released."""
        looking = asyncio.ensure_future(sync_to_async(hold, thread_sensitive=False)(model))
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:
            looking.add_done_callback(_release_unclaimed)
            raise

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
                    each.as_resident(is_leaving=each in self.leaving)
                    for each in self.everyone
                    if each is not slot and each.memory_bytes
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
        promised = sum(slot.memory_bytes for slot in self.everyone if slot.stage == "reading")
        return psutil.virtual_memory().available - promised

    async def _stop(self, slot: Slot) -> None:
        self._forget(slot)
        if slot.watching is not None:
            slot.watching.cancel()
        if slot.loading is not None and not slot.loading.done():
            slot.loading.cancel()
            await asyncio.gather(slot.loading, return_exceptions=True)
        else:
            await slot.end()
            logger.info("Unloaded %s", slot.model_name)
        self.changed.set()

    def _stop_soon(self, slot: Slot) -> None:
        """Takes nothing new from now on. An end that has begun is not broken off when the pool closes."""
        self._forget(slot)
        task = asyncio.ensure_future(self._stop(slot))
        self.endings.add(task)
        task.add_done_callback(self.endings.discard)

    def _forget(self, slot: Slot) -> None:
        self.leaving.discard(slot)
        if self.slots.get(slot.model_name) is slot:
            del self.slots[slot.model_name]

    async def _watch(self, slot: Slot) -> None:
        """An engine that dies leaves the pool; the next request loads the model again."""
        assert slot.engine is not None
        status = await slot.engine.process.wait()
        logger.error("The engine of %s died (%s): %s", slot.model_name, status, slot.engine.last_words())
        self._forget(slot)
        await slot.end()
        self.changed.set()

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(_REAP_SECONDS)
            for slot in await self._find_moved():
                self._let_go(slot)
            for slot in self.everyone:
                if slot.is_overdue or (slot in self.leaving and slot.in_flight == 0):
                    self._stop_soon(slot)

    async def _find_moved(self) -> list[Slot]:
        """Those whose row is gone or names another place now. One query a second, and none without residents."""
        placed = [(slot, slot.located) for slot in self.slots.values() if slot.located is not None]
        if not placed:
            return []
        try:
            homes = await sync_to_async(_ask_homes)([located.pk for _, located in placed])
        except DatabaseFailure as error:
            logger.warning("Whether loaded models have moved is not known for the moment: %s", error)
            return []
        return [slot for slot, located in placed if homes.get(located.pk) != located.home]

    def _let_go(self, slot: Slot) -> None:
        logger.info("%s has moved: its engine ends after %s requests", slot.model_name, slot.in_flight)
        self._forget(slot)
        self.leaving.add(slot)

    def _spawn(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task


def _ask_homes(pks: list[int]) -> dict[int, Path]:
    """Outside of any request nobody else looks after the connection."""
    close_old_connections()
    return homes_of(pks)


def _release_unclaimed(looking: "asyncio.Future[HeldModel]") -> None:
    if not looking.cancelled() and looking.exception() is None:
        looking.result().lock.release()
