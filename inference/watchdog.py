"""Looks after an engine that is ready: whether it is alive, answers, and gets on with its work."""

import time
from dataclasses import dataclass
from typing import Any

from homelab.errors import HomelabError
from inference.errors import EngineHung
from inference.link import LinkBroken
from inference.process import EngineProcess

_MISSES = 2  # one alone may be our own pause: a process that was stopped finds all its timers due


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an engine may be silent, and how long it may make no step while it has work. One step can be the reading
    of a long prompt on a slow processor. While it loads, a drive that sleeps may keep it from answering for longer."""

    silent_seconds: float = 20.0
    silent_load_seconds: float = 120.0
    stuck_seconds: float = 300.0
    look_seconds: float = 5.0


PATIENT = Patience()


class Progress:
    """What /status said, and since when its steps have not changed. Pure: times are given."""

    def __init__(self, *, now: float) -> None:
        self._steps: Any = None
        self._moved_at = now

    def stuck_seconds(self, status: dict[str, Any], *, now: float) -> float:
        steps, has_work = status.get("steps"), status.get("active") or status.get("queued")
        if not has_work or steps is None or steps != self._steps:
            self._moved_at = now
        self._steps = steps
        return now - self._moved_at


async def watch(engine: EngineProcess, *, patience: Patience) -> HomelabError:
    """Returns what went wrong: the engine died, or it hangs (and is still there)."""
    misses, answered_at = 0, time.monotonic()
    progress = Progress(now=answered_at)
    while not await engine.wait_for_end(seconds=patience.look_seconds):
        try:
            _, status = await engine.get("/status", limit_seconds=patience.silent_seconds / _MISSES)
        except (LinkBroken, TimeoutError):
            misses += 1
            is_silent = misses >= _MISSES and time.monotonic() - answered_at >= patience.silent_seconds
            if is_silent and engine.is_alive:
                return _hung(engine, f"did not answer for {patience.silent_seconds:g} s")
            continue
        misses, answered_at = 0, time.monotonic()
        if progress.stuck_seconds(status, now=answered_at) > patience.stuck_seconds:
            return _hung(engine, f"made no step for {patience.stuck_seconds:g} s")
    return engine.explain_end()


def _hung(engine: EngineProcess, what: str) -> EngineHung:
    return EngineHung(f"The engine of {engine.plan.model_name} {what} and was ended.")
