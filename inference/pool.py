"""The engine pool: models come when they are asked for and leave when they are idle. One pool, in the web process.

    async with pool.use("llama-3-8b") as engine: ...

holds the model for the length of the block: it is not unloaded while anybody is in one. The load is a task of its own,
so it goes on when the client that asked first has left, and everybody who asks meanwhile waits for the same one.

An engine reads its files under a shared lock. When the row names another place, requests that run end on the old engine
and new ones load from there; then the old engine goes, and whoever wants to remove the old files can.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error as DatabaseFailure

from homelab.database import outside_requests
from homelab.errors import HomelabError
from inference.admission import AdmissionQueue
from inference.background import Background
from inference.crashes import CrashBook
from inference.devices import Device, read_devices
from inference.errors import ModelBusy, ModelUnloaded
from inference.gauge import Gauge
from inference.loading import Loader, identity_of
from inference.process import EngineProcess
from inference.reaping import Reaper
from inference.records import UsageRecorder
from inference.residents import Residents
from inference.slots import Slot
from inference.standby import Standby
from inference.survey import Surveyor
from inference.tending import Tender
from inference.turnstile import Turnstile
from inference.watchdog import PATIENT, Patience
from registry.models import ModelRegistry
from registry.services import get_model

logger = logging.getLogger(__name__)


class EnginePool:
    """`keep_alive_seconds` -1 is for ever. `read_devices` tells what memory there is."""

    def __init__(
        self,
        *,
        keep_alive_seconds: float,
        max_requests: int,
        has_standby: bool = False,
        patience: Patience = PATIENT,
        read_devices: Callable[[], Sequence[Device]] = read_devices,
    ) -> None:
        self.turnstile = Turnstile(max_requests)
        self.records = UsageRecorder()
        self.crashes = CrashBook()
        self.residents = residents = Residents()
        self.standby = Standby(is_wanted=has_standby)
        self.surveyor = Surveyor(residents, standby=self.standby, gauge=Gauge(read_devices))
        self.queue = AdmissionQueue(residents, surveyor=self.surveyor)
        self.loader = Loader(queue=self.queue, standby=self.standby, crashes=self.crashes, patience=patience)
        self.tender = Tender(residents=residents, crashes=self.crashes, records=self.records, patience=patience)
        self.reaper = Reaper(residents, keep_alive_seconds=keep_alive_seconds)
        self.background = Background()

    @classmethod
    def from_settings(cls) -> Self:
        return cls(
            keep_alive_seconds=settings.KEEP_ALIVE_SECONDS,
            max_requests=settings.MAX_QUEUED_REQUESTS,
            has_standby=settings.ENGINE_STANDBY,
        )

    async def start(self) -> None:
        self.records.start()
        self.background.spawn(self.reaper.run())
        self.background.spawn(self._preload())

    async def close(self) -> None:
        try:
            await self.background.close()
            await asyncio.gather(self.residents.close(), self.standby.close())
            await self.tender.close()
        finally:
            await asyncio.to_thread(self.records.close)

    @asynccontextmanager
    async def use(self, name: str, *, keep_alive_seconds: float | None = None) -> AsyncIterator[EngineProcess]:
        """Loads the model if need be and holds it. Raises what `find` and `held` raise."""
        slot = await self.find(name, keep_alive_seconds=keep_alive_seconds)
        async with self.held(slot) as engine:
            yield engine

    async def load(self, name: str) -> Slot:
        """By hand: one that crashed too often gets a new chance."""
        slot = await self.find(name, is_by_hand=True)
        async with self.held(slot):
            return slot

    async def find(self, name: str, *, keep_alive_seconds: float | None = None, is_by_hand: bool = False) -> Slot:
        """The slot of the model; its load begins if it is not in memory. Enter `held` before anything else is awaited.
        Raises UnknownModel, ModelCrashed."""
        slot = self.residents.slots.get(name)  # its row was looked at lately: no request waits for that
        if slot is None:
            model = await sync_to_async(_find_model)(name)
            if is_by_hand:
                self.crashes.forgive(model.model_name)
            slot = self.residents.slots.get(model.model_name) or self._begin(model)
        if keep_alive_seconds is not None:
            slot.keep_alive_seconds = keep_alive_seconds
        return slot

    @asynccontextmanager
    async def held(self, slot: Slot) -> AsyncIterator[EngineProcess]:
        """Waits until it is loaded, and holds it. Raises whatever kept it from that."""
        assert slot.loading is not None
        try:
            with slot.in_use():
                try:
                    engine = await asyncio.shield(slot.loading)
                except asyncio.CancelledError:
                    if slot.loading.cancelled():
                        raise _unloaded(slot) from None
                    raise
                yield engine
        finally:
            if slot.in_flight == 0:
                self.residents.tell()

    async def unload(self, name: str, *, by_force: bool = False) -> bool:
        """False when it was not loaded. Raises ModelBusy while it answers requests; by force, these end with an
        error."""
        model = await sync_to_async(_find_model)(name)
        slot = self.residents.slots.get(model.model_name)
        if slot is None:
            return False
        if slot.in_flight and not by_force:
            raise ModelBusy(
                f"{model} is answering {slot.in_flight} requests. Unload it when they are done, or with force."
            )
        if slot.engine is not None:
            slot.engine.verdict = _unloaded(slot)
        await asyncio.shield(self.residents.end(slot))
        return True

    def state_of(self, model_name: str) -> str:
        """loaded, loading, unloaded, or failed: it is not loaded again by itself."""
        slot = self.residents.slots.get(model_name)
        if slot is None:
            return "failed" if self.crashes.refusal_of(model_name) else "unloaded"
        return "loaded" if slot.is_ready else "loading"

    def _begin(self, model: ModelRegistry) -> Slot:
        what = identity_of(model)
        self.crashes.check(model.model_name, what=what)
        slot = Slot(model.model_name, model.pk, what=what)
        slot.loading = asyncio.create_task(self.loader.load(slot, model))
        slot.loading.add_done_callback(lambda task: self._settle(slot, task))
        self.residents.add(slot)
        return slot

    def _settle(self, slot: Slot, task: "asyncio.Task[EngineProcess]") -> None:
        self.tender.settle(slot, task)
        if slot.is_ready and not self.residents.is_ending(slot):
            self.background.spawn(self._fill_standby())

    async def _fill_standby(self) -> None:
        """Who waits for memory gets it first."""
        if self.standby.is_missing and not self.queue.waiting:
            main_memory, *_ = (await self.surveyor.survey()).devices
            await self.standby.fill(main_memory)

    async def _preload(self) -> None:
        """One after the other, so that the first is there soon."""
        for name in await sync_to_async(_names_to_preload)():
            await self._try_to_preload(name)
        await self._fill_standby()

    async def _try_to_preload(self, name: str) -> None:
        """What fails is said, and keeps nobody from starting."""
        try:
            await self.load(name)
        except HomelabError as error:
            logger.warning("%s is not preloaded: %s", name, error.message)
        except Exception:
            logger.exception("%s is not preloaded", name)


@outside_requests
def _find_model(name: str) -> ModelRegistry:
    """Chats come without Django."""
    return get_model(name)


@outside_requests
def _names_to_preload() -> list[str]:
    preloaded = ModelRegistry.objects.filter(preload=True).order_by("-priority", "model_name")
    try:
        return list(preloaded.values_list("model_name", flat=True))
    except DatabaseFailure:
        logger.exception("Nothing is preloaded: the database does not tell what")
        return []


def _unloaded(slot: Slot) -> ModelUnloaded:
    return ModelUnloaded(f"{slot.model_name} was taken out of memory while requests waited for it.")
