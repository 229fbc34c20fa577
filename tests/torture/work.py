"""What is done to the model, in processes that may be killed. Django is set up by whoever imports this."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.utils import timezone

from cachemgr import errands, monitor, recovery, trash
from cachemgr.services import sync_configured_caches
from registry import checkups, jobs, moves, removal, services
from registry.models import Job, ModelRegistry
from tests.torture.site import REPO_ID, Site

Work = Callable[[], None]


def first_start() -> None:
    """The database, and the model that is registered."""
    call_command("migrate", verbosity=0)
    sync_configured_caches()
    services.register(services.Wish("m", REPO_ID, cache_location="primary"))


def download() -> None:
    jobs.run_job(services.request_download(ModelRegistry.objects.get()).pk)


def download_unless_asked() -> None:
    """Whoever was killed before there was a job heard nothing, and asks again."""
    if not Job.objects.exists():
        download()


def move_to(site: Site, place: str) -> Work:
    def work() -> None:
        path = str(site.caches["custom"]) if place == "custom" else None
        jobs.run_job(moves.request_move(ModelRegistry.objects.get(), cache_location=place, cache_path=path).pk)

    return work


def remove_and_restore() -> None:
    entry = removal.remove(ModelRegistry.objects.get())
    assert entry is not None
    trash.restore(entry)


def repair() -> None:
    """Reads everything, and fetches what is bad."""
    jobs.run_job(checkups.request_verify(ModelRegistry.objects.get()).pk)
    if ModelRegistry.objects.get().damaged:
        jobs.run_job(checkups.request_repair(ModelRegistry.objects.get()).pk)


def recover() -> None:
    """What a restart does, and then what its owner does: undo a removal, repair what is damaged."""
    Job.objects.open().update(not_before=timezone.now())  # nobody waits for the pause between attempts
    jobs.reconcile()
    for job in Job.objects.due():
        jobs.run_job(job.pk)
    recovery.recover()
    for entry in trash.entries():
        trash.restore(entry)
    monitor.measure_caches(full=True)


def fork(work: Work) -> int:
    """Begins the work in a process group of its own, and answers its number."""
    child = os.fork()
    if child == 0:
        _do(work)
    return child


def _do(work: Work) -> None:
    status = 1
    try:
        os.setsid()
        work()
        status = 0
    except BaseException:  # noqa: BLE001  (its end is the process's end, whatever it is)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def finish(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise AssertionError(f"A process that nobody stopped ended with status {status}.")


@dataclass(frozen=True)
class Point:
    """The n-th call of one kind in one step of the work."""

    step: str
    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.step}: {self.call} {self.number}"


def stopped_at(point: Point, work: Work, *, flag: Path) -> Work:
    """The same work; its child is killed at that system call, and `flag` says so. A work without such a call ends."""

    def prefix(errand: errands.Errand) -> list[str]:
        if errand.order.get("step", errand.module) != point.step:
            return []
        return [
            *("strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={point.call}"),
            *("-e", f"inject={point.call}:signal=SIGKILL:when={point.number}"),
        ]

    end = errands._end

    def look_and_end(child: "subprocess.Popen[str]", **options: Any) -> None:
        with suppress(subprocess.TimeoutExpired):
            if child.wait(timeout=3) == -signal.SIGKILL:
                flag.touch()
        end(child, **options)

    def stopped() -> None:
        errands._priority, errands._end = prefix, look_and_end  # in this process alone, which was forked for it
        with suppress(errands.ErrandFailed):  # where no job catches it
            work()

    return stopped
