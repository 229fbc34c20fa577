"""Killing the child that works on a drive, right before each call by which it changes something there."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable

from cachemgr.models import Cache
from tests.cachemgr.conftest import skip_or_fail

CALLS = ("mkdirat,mkdir", "linkat", "renameat,rename,renameat2", "unlinkat,unlink,rmdir", "fsync")


def killed_at(cache: Cache, call: str, number: int, **order) -> bool:
    """A child of ours does the step and is killed right before its n-th system call of that name; False where it never
    made so many."""
    text = json.dumps({"root": {"path": cache.path, "uuid": cache.uuid}} | order)
    trace = [
        "strace",
        "-f",
        "-qq",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:signal=KILL:when={number}",
        "-o",
        "/dev/null",
    ]
    child = subprocess.Popen(
        [*trace, sys.executable, "-m", "cachemgr.hands"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child.stdin.write(text + "\n")
    child.stdin.flush()
    output = child.stdout.read()
    child.stdin.close()
    child.stdout.close()
    return child.wait() != 0 or '"done"' not in output


def crash_points(run: Callable[[str, int], bool]) -> int:
    """`run(call, number)` for calls of each kind that changes a drive, until there are no more: the first three, and then
    each third."""
    if shutil.which("strace") is None:
        skip_or_fail("There is no strace here, and it kills the child at a chosen call.")
    points = 0
    for call in CALLS:
        number = 1
        while run(call, number):
            number, points = number + (1 if number < 3 else 3), points + 1
    return points
