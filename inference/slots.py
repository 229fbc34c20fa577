"""A model's place in memory: its engine, and the lock that keeps its files where the engine reads them."""

import asyncio
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils import timezone

from cachemgr.locks import RepoLock
from homelab.durations import FOR_EVER
from inference.memory import MemoryPlan
from inference.process import EngineProcess
from inference.scheduler import Resident
from inference.stages import Stage, StageName
from registry.locating import LocatedModel


@dataclass(eq=False)
class Slot:
    """A model on its way into memory, or in it. A failed one leaves the pool; one whose files moved answers what it has
    begun, and takes nothing new. `what`: the files and settings that it tries. `keep_alive_seconds` None: as its
    settings say, else the server's. `memory` was promised to it, of `free_bytes` on these devices.
    """

    model_name: str
    model_pk: int = 0
    what: Hashable = None
    keep_alive_seconds: float | None = None
    stage: Stage = field(default_factory=Stage)
    stage_began_at: float = field(default_factory=time.time)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    in_flight: int = 0
    asked_at: datetime = field(default_factory=timezone.now)
    queued_at: float = field(default_factory=time.monotonic)
    idle_since: float = field(default_factory=time.monotonic)
    idle_from: float = field(default_factory=time.time)
    load_seconds: float = 0.0
    located: LocatedModel | None = None
    lock: RepoLock | None = None
    memory: MemoryPlan | None = None
    free_bytes: int = 0
    engine: EngineProcess | None = None
    loading: "asyncio.Task[EngineProcess] | None" = None
    watching: "asyncio.Task[None] | None" = None
    _ending: "asyncio.Task[None] | None" = None

    @property
    def is_ready(self) -> bool:
        return self.stage.is_ready

    @property
    def is_pinned(self) -> bool:
        return self.located is not None and self.located.is_pinned

    @property
    def memory_bytes(self) -> int:
        return self.memory.total_bytes if self.memory else 0

    def enter(self, name: StageName, **details: Any) -> None:
        self.show(Stage(name, **details))

    def show(self, stage: Stage) -> None:
        """A stage, or the same one with other figures."""
        if stage.name != self.stage.name:
            now = time.time()
            before = self.stage_seconds.get(self.stage.name, 0.0)
            self.stage_seconds[self.stage.name] = before + now - self.stage_began_at
            self.stage_began_at = now
        self.stage = stage

    def stay(self, *, default_seconds: float) -> float:
        """Seconds that it stays when it is idle."""
        own = self.located.serving.keep_alive_seconds if self.located else None
        given = (self.keep_alive_seconds, own, default_seconds)
        return next(seconds for seconds in given if seconds is not None)

    def is_overdue(self, *, default_seconds: float) -> bool:
        stay = self.stay(default_seconds=default_seconds)
        is_idle = self.in_flight == 0 and self.is_ready and not self.is_pinned
        return is_idle and stay != FOR_EVER and time.monotonic() - self.idle_since >= stay

    @contextmanager
    def in_use(self) -> Iterator[None]:
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self.rest()

    def rest(self) -> None:
        """From now on it is idle: by the clock that only goes forward, and by the one on the wall."""
        self.idle_since, self.idle_from = time.monotonic(), time.time()

    def as_resident(self, *, is_leaving: bool, taken: Mapping[str, int]) -> Resident:
        return Resident(
            self.model_name,
            held=self.memory.needs if self.memory else {},
            in_flight=self.in_flight,
            is_pinned=self.is_pinned,
            idle_since=self.idle_since,
            load_seconds=self.load_seconds,
            priority=self.located.serving.priority if self.located else 0,
            state="leaving" if is_leaving else "ready" if self.is_ready else "loading",
            taken=taken,
        )

    async def end(self) -> None:
        """The engine first, and only then the lock: nobody removes files under an engine's feet. What has begun is not
        broken off, and twice is safe."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        try:
            if self.engine is not None:
                await self.engine.stop()
        finally:
            if self.lock is not None:
                self.lock.release()
