"""Who leaves by itself: models that were idle long enough, and engines whose files are elsewhere by now."""

import asyncio
import logging

from asgiref.sync import sync_to_async
from django.db import Error as DatabaseFailure

from homelab.database import outside_requests
from inference.residents import Residents
from inference.slots import Slot
from registry.locating import look_again

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Reaper:
    """`keep_alive_seconds` is for models that say nothing else; -1 is for ever."""

    def __init__(self, residents: Residents, *, keep_alive_seconds: float) -> None:
        self.keep_alive_seconds = keep_alive_seconds
        self._residents = residents

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for slot in await self.look_again():
                logger.info("%s has moved: its engine ends after %s requests", slot.model_name, slot.in_flight)
                self._residents.let_go(slot)
            for slot in self._residents.everyone:
                has_left = slot in self._residents.leaving and slot.in_flight == 0
                if has_left or slot.is_overdue(default_seconds=self.keep_alive_seconds):
                    self._residents.end(slot)

    async def look_again(self) -> list[Slot]:
        """Answers those whose row is gone or names another place now; the others follow their pins and settings. One
        query, and none without residents."""
        placed = [(slot, slot.located) for slot in self._residents.slots.values() if slot.located is not None]
        if not placed:
            return []
        try:
            at_home = await sync_to_async(outside_requests(look_again))([located for _, located in placed])
        except DatabaseFailure as error:
            logger.warning("Whether loaded models have moved is not known for the moment: %s", error)
            return []
        for slot, located in placed:
            slot.located = at_home.get(located.pk, located)
        return [slot for slot, located in placed if located.pk not in at_home]
