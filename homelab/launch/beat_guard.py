"""Imported by the worker: its beat process must not outlive it, or two beats would send every task twice."""

import ctypes
import os
import signal
from typing import Any

from celery.signals import beat_embedded_init

PR_SET_PDEATHSIG = 1


@beat_embedded_init.connect
def die_with_the_worker(**_: Any) -> None:
    """Celery's main thread forks beat and lives as long as the worker: the kernel's signal comes with its end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
