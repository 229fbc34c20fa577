"""From a model's row to an engine that answers: find its files, wait for memory, start a process, wait until it reads.

[pause after a crash] -> [download] -> queue for memory -> reading -> warming -> ready
"""

import asyncio
import itertools
import json
import logging
import os
import time
from collections.abc import Hashable
from functools import partial

from asgiref.sync import sync_to_async
from django.conf import settings

from homelab.database import outside_requests
from inference import facts
from inference.admission import AdmissionQueue
from inference.crashes import CrashBook
from inference.drafts import MemoryPlan
from inference.errors import EngineHung
from inference.facts import parse_facts
from inference.fetching import fetch
from inference.process import EnginePlan, EngineProcess
from inference.slots import Slot
from inference.standby import Standby
from inference.watchdog import Patience
from registry.errors import ModelNotDownloaded
from registry.locating import HeldModel, LocatedModel, hold
from registry.models import ModelRegistry
from registry.services import home_of

logger = logging.getLogger(__name__)

_numbers = itertools.count(1)
"""A socket's name is never used twice: a new engine may start while an old one of the same model still stops."""


class Loader:
    def __init__(self, *, queue: AdmissionQueue, standby: Standby, crashes: CrashBook, patience: Patience) -> None:
        self._queue = queue
        self._standby = standby
        self._crashes = crashes
        self._patience = patience

    async def load(self, slot: Slot, model: ModelRegistry) -> EngineProcess:
        """Leaves nothing behind when it fails or is cancelled. Raises what keeps the model from being served."""
        started = time.monotonic()
        try:
            await self._pause_after_crash(slot)
            held = await self._hold(slot, model)
            slot.located, slot.lock = held.located, held.lock
            await self._queue.admit(slot, parse_facts(held.description))
            slot.engine = await self._start(slot)
            await self._wait_until_ready(slot, slot.engine)
            _warn_of_exposures(slot.engine)
        except BaseException:
            await slot.end()
            raise
        slot.load_seconds = time.monotonic() - started
        slot.enter("ready")
        slot.rest()
        logger.info("Loaded %s from %s in %.1f s", model, held.located.snapshot_path, slot.load_seconds)
        return slot.engine

    async def _pause_after_crash(self, slot: Slot) -> None:
        if pause := self._crashes.pause_seconds(slot.model_name, now=time.monotonic()):
            slot.enter("queued", reason=f"It crashed, and is loaded again in {pause:.0f} s.")
            await asyncio.sleep(pause)

    async def _hold(self, slot: Slot, model: ModelRegistry) -> HeldModel:
        try:
            return await _look(model)
        except ModelNotDownloaded:
            if not model.serving_settings.downloads_on_request:
                raise
        await fetch(model, on_stage=slot.show)
        slot.enter("queued")
        await sync_to_async(outside_requests(model.refresh_from_db), thread_sensitive=False)()
        slot.what = identity_of(model)
        return await _look(model)

    async def _start(self, slot: Slot) -> EngineProcess:
        assert slot.lock is not None
        plan = self._plan(slot)
        slot.enter("reading")
        inherits = [slot.lock.descriptor]
        return self._standby.take(plan, inherits=inherits) or await EngineProcess.start(plan, inherits=inherits)

    def _plan(self, slot: Slot) -> EnginePlan:
        located, memory = slot.located, slot.memory
        assert located is not None
        assert memory is not None
        return EnginePlan(
            model_name=located.model_name,
            snapshot_path=located.snapshot_path,
            socket_path=settings.RUNTIME_DIR / f"engine-{located.pk}-{next(_numbers)}.sock",
            log_path=settings.DATA_DIR / "logs" / f"engine-{located.pk}.log",
            project_path=settings.BASE_DIR,
            options={
                "context-length": memory.context_length,
                "parallel-requests": memory.parallel_requests,
                "kv-tokens": memory.kv_tokens,
                "dtype": memory.dtype,
                "device": memory.device,
                "quantization": memory.quantization,
                **_limit_memory(memory, located),
                **({"remote-code": json.dumps(dict(located.code))} if located.code else {}),
            },
            needed_bytes=memory.total_bytes,
            free_bytes=slot.free_bytes,
        )

    async def _wait_until_ready(self, slot: Slot, engine: EngineProcess) -> None:
        try:
            await engine.wait_until_ready(on_stage=slot.show, silent_seconds=self._patience.silent_load_seconds)
        except TimeoutError as error:
            seconds = self._patience.silent_load_seconds
            message = (
                f"The engine of {slot.model_name} did not answer for {seconds:g} s while it loaded, and was ended."
            )
            raise EngineHung(message) from error


def _limit_memory(memory: MemoryPlan, located: LocatedModel) -> dict[str, int]:
    limit = memory.limit_writable(files_bytes=located.size_bytes, processors=os.cpu_count() or 1)
    return {"memory-limit": limit} if limit else {}


def _warn_of_exposures(engine: EngineProcess) -> None:
    for exposure in engine.facts.get("exposures", []):
        logger.warning("The engine of %s is not wholly confined. %s", engine.plan.model_name, exposure)


def identity_of(model: ModelRegistry) -> Hashable:
    """What is tried when it is loaded: a model that crashed with other files or settings may do better with these."""
    return home_of(model), model.revision, model.serving_settings, model.remote_code.get("commit")


async def _look(model: ModelRegistry) -> HeldModel:
    """A thread cannot be cancelled: what it found for nobody is released."""
    look = partial(outside_requests(hold), describer=facts.__name__)
    looking = asyncio.ensure_future(sync_to_async(look, thread_sensitive=False)(model))
    try:
        return await asyncio.shield(looking)
    except asyncio.CancelledError:
        looking.add_done_callback(_release_unclaimed)
        raise


def _release_unclaimed(looking: "asyncio.Future[HeldModel]") -> None:
    if not looking.cancelled() and looking.exception() is None:
        looking.result().lock.release()
