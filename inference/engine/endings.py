"""How an engine ends, and what errors end it. Imports no torch: errors are known by their names and words."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

USAGE = 2
LOAD_FAILED = 3
OUT_OF_MEMORY = 4
BROKEN = 5

_MEMORY_NAMES = ("MemoryError", "OutOfMemoryError")
_MEMORY_WORDS = ("can't allocate memory", "Cannot allocate memory", "out of memory")
_DEVICE_NAMES = ("AcceleratorError",)
_DEVICE_WORDS = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "HIP error")


class Ending(Exception):
    """The process ends with this exit code, and the message, one sentence, is its last word."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


_last_acts: list[Callable[[], None]] = []


def before_leaving(act: Callable[[], None]) -> None:
    """Quick, and whatever it raises as OSError does not matter."""
    _last_acts.append(act)


def leave(ending: Ending | None = None) -> NoReturn:
    """Ends the process at once, from any thread: torch's threads make an ordinary end slow, and sometimes a crash."""
    for act in _last_acts:
        with contextlib.suppress(OSError):
            act()
    if ending:
        sys.stderr.write(f"{ending}\n")
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(ending.code if ending else 0)


def is_out_of_memory(error: BaseException) -> bool:
    return type(error).__name__ in _MEMORY_NAMES or any(word in str(error) for word in _MEMORY_WORDS)


def explain_load_error(error: Exception) -> Ending:
    code = OUT_OF_MEMORY if is_out_of_memory(error) else LOAD_FAILED
    return Ending(code, f"The model cannot be loaded: {_describe(error)}")


def find_ending(error: Exception) -> Ending | None:
    """What an error means that a step of the model raised: None if only its requests are lost.

    1. Without memory the next step would fail too, or take others with it.
    2. An error of a GPU stays with the process that met it.
    """
    if is_out_of_memory(error):
        return Ending(OUT_OF_MEMORY, f"The memory did not suffice while the model was generating: {_describe(error)}")
    if type(error).__name__ in _DEVICE_NAMES or any(word in str(error) for word in _DEVICE_WORDS):
        return Ending(BROKEN, f"The GPU failed while the model was generating: {_describe(error)}")
    return None


def explain_broken_thread(error: Exception) -> Ending:
    """What an error means that nobody expected on the model thread."""
    return find_ending(error) or Ending(BROKEN, f"The engine failed: {_describe(error)}")


def _describe(error: Exception) -> str:
    first_line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first_line}".rstrip(": ")
