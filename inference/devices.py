"""What memory this machine has at this moment: its own, within a container's limit, and that of its NVIDIA GPUs.

It takes milliseconds, as long as the GPUs' driver answers, and imports no torch. cuda:0 is the first GPU in the order
of the PCI bus, so an engine has to run with CUDA_DEVICE_ORDER=PCI_BUS_ID.
"""

import importlib.util
import re
from functools import cache
from pathlib import Path

import psutil

from cachemgr.units import format_bytes
from inference.cgroups import read_limits
from inference.engine.dtypes import read_cpu_flags
from inference.gpus import read_gpus, read_taken_on_gpus
from inference.places import Device

__all__ = ["Device", "read_devices", "read_main_memory", "read_taken", "read_taken_of_main_memory"]

_KEPT_SHARE = 0.02  # of the main memory, for whoever needs a little suddenly
_CUDA_BUILD = re.compile(r"^cuda\b[^=]*=\s*['\"]", flags=re.MULTILINE)
_KILOBYTE = 1024


def read_devices() -> tuple[Device, ...]:
    """The main memory as `cpu`, then the GPUs that torch can use: none without a driver, or with a torch for CPUs."""
    gpus = read_gpus() if has_cuda_torch() else ()
    return (read_main_memory(), *gpus)


def read_main_memory() -> Device:
    memory = psutil.virtual_memory()
    total_bytes, free_bytes, label = memory.total, memory.available, "main memory"
    for limit in read_limits():
        if limit.limit_bytes < total_bytes:
            total_bytes = limit.limit_bytes
            label = f"main memory, limited to {format_bytes(total_bytes)} by a cgroup"
        free_bytes = min(free_bytes, limit.free_bytes)
    free_bytes = max(0, free_bytes - round(_KEPT_SHARE * total_bytes))
    return Device("cpu", total_bytes, free_bytes, label, flags=_read_flags())


def read_taken(pid: int) -> dict[str, int]:
    """Bytes that a process has of what the devices call free no more; {} if it has ended. A GPU is missing where the
    driver does not tell, as in most containers."""
    taken = read_taken_of_main_memory(pid)
    return taken | read_taken_on_gpus(pid) if taken and has_cuda_torch() else taken


def read_taken_of_main_memory(pid: int) -> dict[str, int]:
    """Its own pages: those of mapped files count as free all the time. {} if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    own_kilobytes = (int(size) for size in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", status, flags=re.MULTILINE))
    return {"cpu": sum(own_kilobytes) * _KILOBYTE}


@cache
def _read_flags() -> frozenset[str]:
    return read_cpu_flags()


@cache
def has_cuda_torch() -> bool:
    """Whether the torch that is installed is a build for CUDA: read, not imported."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).with_name("version.py")
    return version.is_file() and bool(_CUDA_BUILD.search(version.read_text(encoding="utf-8")))
