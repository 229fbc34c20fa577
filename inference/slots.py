"""A model's place in memory: its engine, and the lock that keeps its files where the engine reads them."""

import asyncio
import time
from dataclasses import dataclass, field

from cachemgr.locks import RepoLock
from inference.process import EngineProcess
from inference.scheduler import Resident
from registry.locating import LocatedModel

FOR_EVER = -1.0


@dataclass(eq=False)
class Slot:
    """A model on its way into memory, or in it. A failed one leaves the pool; one whose files moved answers what it has
    begun, and takes nothing new.

    queued -> reading -> ready
    """

    model_name: str
    keep_alive_seconds: float
    stage: str = "queued"
    in_flight: int = 0
    idle_since: float = field(default_factory=time.monotonic)
    memory_bytes: int = 0
    load_seconds: float = 0.0
    located: LocatedModel | None = None
    lock: RepoLock | None = None
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

    def as_resident(self, *, is_leaving: bool = False) -> Resident:
        """One that leaves, or loads, cannot be asked to go; but it makes room in the end."""
        is_idle = self.stage == "ready" and not is_leaving
        in_flight = self.in_flight if is_idle else max(1, self.in_flight)
        is_pinned = self.is_pinned and not is_leaving
        return Resident(self.model_name, self.memory_bytes, in_flight, is_pinned, self.idle_since)

    async def end(self) -> None:
        """The engine first, and only then the lock: nobody removes files under an engine's feet."""
        try:
            if self.engine is not None:
                await self.engine.stop()
        finally:
            if self.lock is not None:
                self.lock.release()
