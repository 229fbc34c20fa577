"""Imported by the worker. Its beat process must not outlive it, or two beats would send every task twice; and a beat
that is silent gets a stand-in.
"""

import ctypes
import os
import signal
import threading
from typing import Any

from celery.signals import beat_embedded_init, worker_ready, worker_shutting_down

PR_SET_PDEATHSIG = 1
_stopping = threading.Event()


@beat_embedded_init.connect
def die_with_the_worker(**_: Any) -> None:
    """Celery's main thread forks beat and lives as long as the worker: the kernel's signal comes with its end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@worker_ready.connect
def watch_beat(**_: Any) -> None:
    from cachemgr import watchdog  # not at the top: Django is not set up when the worker imports this

    watchdog.start(_stopping)


@worker_shutting_down.connect
def stop_watching(**_: Any) -> None:
    _stopping.set()
