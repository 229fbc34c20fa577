"""Zeros that take memory only once they are written to, as the cache of a CPU should: torch writes all of them at once,
which for 1.2 GB was measured to take 4 s of a load."""

import contextlib
import mmap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_LARGE_BYTES = 16 * 1024**2


class LazyZeros(TorchFunctionMode):
    """`torch.zeros` of many bytes on the CPU, as long as this context is open."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.zeros and kwargs.get("dtype") is torch.uint8 and _is_large(args, kwargs):
            return _map_zeros(args[0])
        return function(*args, **kwargs)


def _is_large(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    is_on_cpu = torch.device(kwargs.get("device") or "cpu").type == "cpu"
    return is_on_cpu and len(args) == 1 and isinstance(args[0], int) and args[0] >= _LARGE_BYTES


def _map_zeros(size_bytes: int) -> Tensor:
    """In huge pages where the kernel has them: one fault instead of 512. Raises MemoryError."""
    try:
        memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"the cache of {size_bytes / 1e9:.1f} GB cannot be allocated ({error.strerror})") from error
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)
