"""Who leaves by itself: models that were idle long enough, and engines whose files are elsewhere by now."""

import asyncio
import logging
import time

from asgiref.sync import sync_to_async

from homelab.database import outside_requests
from inference.residents import Residents
from inference.slots import Slot
from registry.locating import look_again

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_ROWS_SECONDS = 3.0


class Reaper:
    """`keep_alive_seconds` is for models that say nothing else; -1 is for ever."""

    def __init__(self, residents: Residents, *, keep_alive_seconds: float) -> None:
        self.keep_alive_seconds = keep_alive_seconds
        self._residents = residents
        self._last_trouble = ""
        self._rows_at = 0.0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for slot in await self._find_moved():
                logger.info("%s has moved: its engine ends after %s requests", slot.model_name, slot.in_flight)
                self._residents.let_go(slot)
            for slot in self._residents.everyone:
                has_left = slot in self._residents.leaving and slot.in_flight == 0
                if has_left or slot.is_overdue(default_seconds=self.keep_alive_seconds):
                    self._residents.end(slot)

    async def _find_moved(self) -> list[Slot]:
        """What the database and the rows do to it is said, once each time, and keeps no idle model in memory. It is
        asked every few seconds."""
        now = time.monotonic()
        if now < self._rows_at + _ROWS_SECONDS:
            return []
        self._rows_at = now
        try:
            moved = await self.look_again()
        except Exception as error:
            if repr(error) != self._last_trouble:
                logger.warning("Whether loaded models have moved is not known for the moment", exc_info=error)
            self._last_trouble = repr(error)
            return []
        self._last_trouble = ""
        return moved

    async def look_again(self) -> list[Slot]:
        """Answers those whose row is gone or names another place now; the others follow their pins and settings. One
        query, and none without residents. Raises whatever keeps the database from answering."""
        placed = [(slot, slot.located) for slot in self._residents.slots.values() if slot.located is not None]
        if not placed:
            return []
        at_home = await sync_to_async(outside_requests(look_again))([located for _, located in placed])
        for slot, located in placed:
            slot.located = at_home.get(located.pk, located)
        return [slot for slot, located in placed if located.pk not in at_home]
