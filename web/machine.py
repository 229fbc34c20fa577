"""What this machine does at the moment: processor, main memory, GPUs. Nobody waits long for it, however slow a driver
is."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from inference.devices import read_main_memory
from inference.gpus import GpuUse, read_gpu_use

_FRESH_SECONDS = 1.0
_FIRST_SECONDS = 0.3
_SILENT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the machine, or of the part of it that a container may use."""

    label: str
    total_bytes: int
    used_bytes: int

    @property
    def percent(self) -> int:
        return round(self.used_bytes / self.total_bytes * 100) if self.total_bytes else 0


@dataclass(frozen=True, slots=True)
class Gpu:
    use: GpuUse

    @property
    def percent(self) -> int:
        return round(self.use.used_bytes / self.use.total_bytes * 100) if self.use.total_bytes else 0


@dataclass(frozen=True, slots=True)
class Machine:
    """`is_driver_silent`: the GPUs' driver does not answer, and these are its last words."""

    cpu_percent: int
    core_count: int
    memory: Memory
    gpus: tuple[Gpu, ...]
    is_driver_silent: bool


class Processor:
    """Its use since it was last read, a second ago or more: pages that are open side by side get the same number.

    psutil.cpu_percent remembers by thread, and each request has one of its own."""

    def __init__(self) -> None:
        self._read_at, self._counts = time.monotonic(), _count()
        self._percent = 0
        self._lock = threading.Lock()

    def percent(self) -> int:
        with self._lock:
            if time.monotonic() - self._read_at >= _FRESH_SECONDS:
                self._read()
            return self._percent

    def _read(self) -> None:
        (busy, total), (busy_before, total_before) = _count(), self._counts
        self._read_at, self._counts = time.monotonic(), (busy, total)
        share = (busy - busy_before) / max(0.01, total - total_before)
        self._percent = round(100 * min(1.0, max(0.0, share)))


def _count() -> tuple[float, float]:
    """Seconds of all cores since the start: busy ones, and all. Time of guests is in the user's already."""
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


class GpuWatch:
    """Reads in a thread, one at a time: a driver that hangs costs that thread, and pages show what was read before."""

    def __init__(self, read: Callable[[], tuple[GpuUse, ...]] = read_gpu_use) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._found: tuple[GpuUse, ...] | None = None
        self._began_at = -_FRESH_SECONDS
        self._reading: threading.Thread | None = None

    def latest(self) -> tuple[tuple[GpuUse, ...], bool]:
        """The GPUs, and whether their driver is silent. The very first time it waits for a moment."""
        with self._lock:
            is_first = self._reading is None
            reading = self._begin()
        if is_first:
            reading.join(_FIRST_SECONDS)
        is_silent = reading.is_alive() and time.monotonic() - self._began_at > _SILENT_SECONDS
        return self._found or (), is_silent

    def _begin(self) -> threading.Thread:
        reading, now = self._reading, time.monotonic()
        if reading is None or not (reading.is_alive() or now - self._began_at < _FRESH_SECONDS):
            reading = self._reading = threading.Thread(target=self._look, name="gpus", daemon=True)
            self._began_at = now
            reading.start()
        return reading

    def _look(self) -> None:
        self._found = self._read()


_processor = Processor()
_gpus = GpuWatch()


def read_machine() -> Machine:
    memory = read_main_memory()
    gpus, is_silent = _gpus.latest()
    return Machine(
        cpu_percent=_processor.percent(),
        core_count=psutil.cpu_count() or 1,
        memory=Memory(memory.label, memory.total_bytes, memory.total_bytes - memory.free_bytes),
        gpus=tuple(Gpu(gpu) for gpu in gpus),
        is_driver_silent=is_silent,
    )
