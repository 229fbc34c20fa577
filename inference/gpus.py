"""NVIDIA GPUs, asked through NVML, the library of the driver: nvidia-smi uses it too."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pynvml  # type: ignore[import-untyped]

from inference.places import Device

logger = logging.getLogger(__name__)

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class GpuUse:
    """A GPU at one moment. `busy_percent` and `celsius` are None where its driver does not tell."""

    label: str
    total_bytes: int
    used_bytes: int
    busy_percent: int | None = None
    celsius: int | None = None


def read_gpus(*, library: Any = pynvml, visible: str | None = None) -> tuple[Device, ...]:
    """Those that CUDA will see, in its order; () without a driver. `visible` as CUDA_VISIBLE_DEVICES has it."""
    try:
        return tuple(_describe(handle, index=index, library=library) for index, handle in _find(library, visible))
    except library.NVMLError as error:
        _say_once(str(error))
        return ()


def read_taken_on_gpus(pid: int, *, library: Any = pynvml, visible: str | None = None) -> dict[str, int]:
    """Bytes of a process by device. A device is missing where the driver does not tell, as in most containers."""
    try:
        handles = list(_find(library, visible))
        used = {index: _ask_used(handle, pid=pid, library=library) for index, handle in handles}
    except library.NVMLError as error:
        _say_once(str(error))
        return {}
    return {f"cuda:{index}": size_bytes for index, size_bytes in used.items() if size_bytes is not None}


def read_gpu_use(*, library: Any = pynvml) -> tuple[GpuUse, ...]:
    """All that this process may see; () without a driver."""
    try:
        return tuple(_describe_use(handle, library=library) for _, handle in _find(library, None))
    except library.NVMLError as error:
        _say_once(str(error))
        return ()


def _describe_use(handle: Any, *, library: Any) -> GpuUse:
    memory = library.nvmlDeviceGetMemoryInfo(handle)
    return GpuUse(
        label=str(library.nvmlDeviceGetName(handle)),
        total_bytes=int(memory.total),
        used_bytes=int(memory.total - memory.free),
        busy_percent=_try(lambda: library.nvmlDeviceGetUtilizationRates(handle).gpu, library=library),
        celsius=_try(lambda: library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU), library=library),
    )


def _try(ask: Callable[[], Any], *, library: Any) -> int | None:
    try:
        return int(ask())
    except library.NVMLError:
        return None


def _find(library: Any, visible: str | None) -> Iterator[tuple[int, Any]]:
    """CUDA ends its list where a name means nothing to it, and so do we."""
    library.nvmlInit()
    names = os.environ.get(_VISIBLE) if visible is None else visible
    handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
    if names is None:
        yield from enumerate(handles)
        return
    for index, name in enumerate(names.split(",")):
        handle = _find_named(name.strip(), handles=handles, library=library)
        if handle is None:
            return
        yield index, handle


def _find_named(name: str, *, handles: list[Any], library: Any) -> Any:
    """A number, a UUID or the beginning of one, or the UUID of a MIG instance. None for anything else."""
    if name.isdecimal():
        return handles[int(name)] if int(name) < len(handles) else None
    if name.startswith("MIG-"):
        return library.nvmlDeviceGetHandleByUUID(name)
    if not name.startswith("GPU-"):
        return None
    return next((handle for handle in handles if library.nvmlDeviceGetUUID(handle).startswith(name)), None)


def _describe(handle: Any, *, index: int, library: Any) -> Device:
    memory = library.nvmlDeviceGetMemoryInfo(handle)
    return Device(f"cuda:{index}", int(memory.total), int(memory.free), str(library.nvmlDeviceGetName(handle)))


def _ask_used(handle: Any, *, pid: int, library: Any) -> int | None:
    processes = library.nvmlDeviceGetComputeRunningProcesses(handle)
    used = next((process.usedGpuMemory for process in processes if process.pid == pid), None)
    return None if used is None else int(used)


@cache
def _say_once(reason: str) -> None:
    logger.info("No GPU is used: %s", reason)
