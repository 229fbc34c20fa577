"""Who holds a job, and whether they still do. Clocks step, machines sleep and process numbers come again; so a holder
is known by its boot and the tick at which it started, and on its own host the time is that of the monotonic clock.
"""

import os
import socket
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

LASTS = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Lease:
    """`owner` is host:process:boot.tick. `beat_at`: the last sign of life, in seconds of its host's monotonic clock;
    `expires_at`: the same for other hosts, by the clock on the wall."""

    owner: str
    beat_at: float
    expires_at: datetime | None

    def is_held(self, *, now: datetime) -> bool:
        """A process of this host that is gone holds nothing. Another host's is only known by its lease."""
        host, number, start = self.owner.rsplit(":", 2)
        if host != socket.gethostname():
            return self.expires_at is not None and self.expires_at > now
        return _start_of(number) == start and time.monotonic() - self.beat_at <= LASTS.total_seconds()


def fresh(*, now: datetime) -> Lease:
    return Lease(own_name(), beat_at=time.monotonic(), expires_at=now + LASTS)


def own_name() -> str:
    number = str(os.getpid())
    return f"{socket.gethostname()}:{number}:{_start_of(number)}"


def _start_of(number: str) -> str | None:
    """`boot.tick` of a process, None when there is none, or only its remains."""
    try:
        stat = Path("/proc", number, "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in {"Z", "X"} else f"{_boot()}.{fields[18]}"


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
