"""What memory there is and who has it, read in a thread: the driver of a GPU may take seconds for it, or hang."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from inference.devices import Device, read_devices, read_main_memory, read_taken, read_taken_of_main_memory

logger = logging.getLogger(__name__)

LIMIT_SECONDS = 10.0  # a driver that nobody uses is started first, which takes seconds on a machine with many GPUs


@dataclass(frozen=True, slots=True)
class Reading:
    """`devices`: the main memory first. `taken`: bytes by process and device, as `read_taken` has them."""

    devices: tuple[Device, ...]
    taken: Mapping[int, Mapping[str, int]]


class Gauge:
    """One look at a time, so a driver that hangs costs one thread. Until it answers, the main memory alone counts."""

    def __init__(
        self,
        read_devices: Callable[[], Sequence[Device]] = read_devices,
        *,
        read_taken: Callable[[int], Mapping[str, int]] = read_taken,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        self._read_devices = read_devices
        self._read_taken = read_taken
        self._limit_seconds = limit_seconds
        self._turn = asyncio.Lock()
        self._look: asyncio.Future[Reading] | None = None
        self._is_hanging = False

    async def read(self, pids: Sequence[int]) -> Reading:
        """Not older than the call."""
        async with self._turn:
            if not await self._has_ended():  # whoever began it may have left
                return _read_main_memory_alone(pids)
            self._look = look = _in_thread(lambda: self._read_all(pids))
            return look.result() if await self._has_ended() else _read_main_memory_alone(pids)

    def _read_all(self, pids: Sequence[int]) -> Reading:
        return Reading(tuple(self._read_devices()), {pid: self._read_taken(pid) for pid in pids})

    async def _has_ended(self) -> bool:
        """Waits for the look that was begun. Not again for one that is known to hang."""
        if self._look is None:
            return True
        await asyncio.wait({self._look}, timeout=0 if self._is_hanging else self._limit_seconds)
        self._note(is_hanging=not self._look.done())
        return not self._is_hanging

    def _note(self, *, is_hanging: bool) -> None:
        if is_hanging and not self._is_hanging:
            logger.warning("The GPUs' driver does not answer: until it does, the main memory alone is counted.")
        elif self._is_hanging and not is_hanging:
            logger.warning("The GPUs' driver answers again.")
        self._is_hanging = is_hanging


def _read_main_memory_alone(pids: Sequence[int]) -> Reading:
    main_memory = read_main_memory()
    label = f"{main_memory.label}; the driver of its GPUs does not answer"
    return Reading((replace(main_memory, label=label),), {pid: read_taken_of_main_memory(pid) for pid in pids})


def _in_thread(work: Callable[[], Reading]) -> "asyncio.Future[Reading]":
    """In one that ends with the process: those of an executor are waited for."""
    found: Future[Reading] = Future()

    def fulfil() -> None:
        try:
            found.set_result(work())
        except Exception as error:  # noqa: BLE001  (whoever waits raises it)
            found.set_exception(error)

    threading.Thread(target=fulfil, name="gauge", daemon=True).start()
    return asyncio.wrap_future(found)
