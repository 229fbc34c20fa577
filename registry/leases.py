"""Who holds a job, and whether they still do. Clocks step, machines sleep and process numbers come again; so a holder
is known by its boot and the tick at which it started, and on its own host the time is that of the monotonic clock.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

LASTS = timedelta(seconds=60)
_BEAT_SECONDS = 15.0


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


@contextmanager
def beating(renew: Callable[[], bool]) -> Iterator[None]:
    """Renews a lease in a thread of its own, whatever the block waits for: until the block ends, or `renew` answers
    that the lease is somebody else's by now."""
    is_over = threading.Event()
    thread = threading.Thread(target=_beat, args=(renew, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _beat(renew: Callable[[], bool], is_over: threading.Event) -> None:
    is_ours = True
    while is_ours and not is_over.wait(_BEAT_SECONDS):
        try:
            is_ours = renew()
        except (OperationalError, InterfaceError) as error:
            logger.warning("A lease was not renewed: %s", error)  # it lasts longer than some of these
        finally:
            connection.close()  # it is this thread's own


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
