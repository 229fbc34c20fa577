"""What the end of an engine means: its exit code, its last words, and what the kernel did."""

import signal
from dataclasses import dataclass
from pathlib import Path

from cachemgr.units import format_bytes
from homelab.errors import HomelabError
from inference.errors import EngineDied, InsufficientMemory, ModelNotLoadable

LOAD_FAILED = 3
OUT_OF_MEMORY = 4
_WAYS_OUT = "Unload other models, or give it a shorter context."
_VMSTAT = Path("/proc/vmstat")


@dataclass(frozen=True, slots=True)
class Ending:
    """`exit_code` is negative for a signal, None while the process is still there. `was_out_of_memory`: the kernel
    killed somebody for want of memory since the engine answered last. `needed_bytes` of `free_bytes`: what it was
    given."""

    model_name: str
    exit_code: int | None
    last_words: str = ""
    was_loading: bool = False
    was_out_of_memory: bool = False
    needed_bytes: int = 0
    free_bytes: int = 0

    def explain(self) -> HomelabError:
        """1. It said that memory did not suffice, or the kernel took it for that: InsufficientMemory.
        2. It said why it cannot load: ModelNotLoadable.
        3. It died otherwise, at whatever it did: EngineDied."""
        if self.exit_code == OUT_OF_MEMORY or self._was_killed_for_memory:  # 1
            return self._lack_memory()
        if self.exit_code == LOAD_FAILED:  # 2
            return ModelNotLoadable(self._sentence(f"{self.model_name} cannot be loaded"))
        doing = "loaded" if self.was_loading else "worked"  # 3
        return EngineDied(self._sentence(f"The engine of {self.model_name} {self._manner} while it {doing}"))

    def _lack_memory(self) -> InsufficientMemory:
        given = f"it was given {format_bytes(self.needed_bytes)}, of {format_bytes(self.free_bytes)} that were free"
        why = f" {self.last_words}" if self.last_words else ""
        return InsufficientMemory(
            f"The memory did not suffice for {self.model_name}: {given}.{why} {_WAYS_OUT}",
            details={"needed_bytes": self.needed_bytes, "free_bytes": self.free_bytes},
        )

    @property
    def _was_killed_for_memory(self) -> bool:
        return self.was_out_of_memory and self.exit_code == -signal.SIGKILL

    @property
    def _manner(self) -> str:
        if self.exit_code is None:
            return "broke off"
        if self.exit_code == -signal.SIGBUS:
            return "lost the files of its model (SIGBUS: has its drive gone?)"
        if self.exit_code < 0:
            return f"was killed ({signal.Signals(-self.exit_code).name})"
        return f"ended (exit code {self.exit_code})"

    def _sentence(self, what: str) -> str:
        return f"{what}: {self.last_words}" if self.last_words else f"{what}."


def count_oom_kills() -> int:
    """How often the kernel has killed a process of this machine for want of memory; 0 where it does not tell."""
    try:
        lines = _VMSTAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
