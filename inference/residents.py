"""Everybody who has memory, or is on the way to it. One object of this kind, in the web process, on its event loop."""

import asyncio
import logging

from inference.slots import Slot

logger = logging.getLogger(__name__)


class Residents:
    """`slots` take requests, by model name; those in `leaving` answer what they have begun, and end.

    `next_change` is set when somebody comes, goes, or becomes idle. Whoever waits for memory takes it first, then
    looks, and then waits for it: what changes meanwhile is not missed.
    """

    def __init__(self) -> None:
        self.slots: dict[str, Slot] = {}
        self.leaving: set[Slot] = set()
        self.next_change = asyncio.Event()
        self._endings: dict[Slot, asyncio.Task[None]] = {}

    @property
    def everyone(self) -> list[Slot]:
        return [*self.slots.values(), *self.leaving]

    def is_ending(self, slot: Slot) -> bool:
        """Somebody takes it out of memory: what becomes of its load and its engine is what was wanted."""
        return slot in self._endings

    def tell(self) -> None:
        """Something has changed: whoever waits for memory looks again."""
        change, self.next_change = self.next_change, asyncio.Event()
        change.set()

    def add(self, slot: Slot) -> None:
        self.slots[slot.model_name] = slot

    def forget(self, slot: Slot) -> None:
        """It is nobody's any more: a load that failed."""
        self.leaving.discard(slot)
        if self.slots.get(slot.model_name) is slot:
            del self.slots[slot.model_name]
        self.tell()

    def let_go(self, slot: Slot) -> None:
        """It takes nothing new from now on. Whoever asks for the model again waits for another engine."""
        self.forget(slot)
        self.leaving.add(slot)

    def end(self, slot: Slot) -> "asyncio.Task[None]":
        """Takes it out of memory, whatever it does. What has begun is not broken off when the one who asked leaves."""
        if slot not in self._endings:
            self.let_go(slot)
            self._endings[slot] = asyncio.create_task(self._end(slot))
        return self._endings[slot]

    async def close(self) -> None:
        await asyncio.gather(*(self.end(slot) for slot in self.everyone), *self._endings.values())

    async def _end(self, slot: Slot) -> None:
        try:
            if slot.watching is not None:
                slot.watching.cancel()
            if slot.loading is not None and not slot.loading.done():
                slot.loading.cancel()
                await asyncio.gather(slot.loading, return_exceptions=True)
            await slot.end()
            logger.info("Unloaded %s", slot.model_name)
        finally:
            self.forget(slot)
            del self._endings[slot]
