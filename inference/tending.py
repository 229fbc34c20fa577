"""What becomes of a load, and of the engine after it: it is watched, and its end is noted."""

import asyncio
import logging
import time

from asgiref.sync import sync_to_async

from homelab.errors import HomelabError
from inference.accounting import usage_of_load
from inference.background import Background
from inference.crashes import CrashBook
from inference.errors import EngineDied
from inference.process import EngineProcess
from inference.records import UsageRecorder
from inference.residents import Residents
from inference.slots import Slot
from inference.watchdog import Patience, watch
from registry.failing import mark_failed

logger = logging.getLogger(__name__)


class Tender:
    """`last_errors`: why the last load of a model failed, by its name."""

    def __init__(self, *, residents: Residents, crashes: CrashBook, records: UsageRecorder, patience: Patience) -> None:
        self.last_errors: dict[str, HomelabError] = {}
        self._residents = residents
        self._crashes = crashes
        self._records = records
        self._patience = patience
        self._background = Background()

    def settle(self, slot: Slot, task: "asyncio.Task[EngineProcess]") -> None:
        """After a load. A failed one leaves the pool, so that the next request tries again. Of one that is taken out of
        memory nothing is watched, nor is its end a crash."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._records.note(usage_of_load(slot, error))
        if self._residents.is_ending(slot):
            return
        if error is None:
            self.last_errors.pop(slot.model_name, None)
            self._crashes.note_load(slot.model_name)
            slot.watching = asyncio.create_task(self._watch(slot, task.result()))
        else:
            self._residents.forget(slot)
            self._note_failure(slot, error)
        self._residents.tell()

    async def close(self) -> None:
        await self._background.close()

    def _note_failure(self, slot: Slot, error: BaseException) -> None:
        if isinstance(error, HomelabError):
            self.last_errors[slot.model_name] = error
            logger.warning("%s was not loaded: %s", slot.model_name, error.message)
            if slot.engine is not None:
                self._note_crash(slot, error)
        elif not isinstance(error, asyncio.CancelledError):
            logger.error("%s was not loaded", slot.model_name, exc_info=error)

    async def _watch(self, slot: Slot, engine: EngineProcess) -> None:
        """Ends with the engine. The next request loads the model again."""
        error = await self._see_end(engine)
        engine.verdict = error
        logger.error("%s", error.message)
        self._residents.end(slot)
        self._note_crash(slot, error)

    async def _see_end(self, engine: EngineProcess) -> HomelabError:
        """Why it has to go. One that cannot be watched goes too: nobody would see it die."""
        try:
            return await watch(engine, patience=self._patience)
        except Exception as error:
            logger.exception("The engine of %s cannot be watched", engine.plan.model_name)
            return EngineDied(f"The engine of {engine.plan.model_name} was ended: it could not be watched ({error!r}).")

    def _note_crash(self, slot: Slot, error: HomelabError) -> None:
        self.last_errors[slot.model_name] = error
        refusal = self._crashes.note(slot.model_name, what=slot.what, message=error.message, now=time.monotonic())
        if refusal:
            self._background.spawn(sync_to_async(mark_failed, thread_sensitive=False)(slot.model_pk, refusal))
