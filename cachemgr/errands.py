"""Errands: long work, done by a child process that can be killed, and followed line by line."""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cachemgr.errors import CacheUnavailable, ErrandFailed

STALL_SECONDS = 60.0
_PROJECT = Path(__file__).resolve().parent.parent
_TICK_SECONDS = 1.0
_STOP_SECONDS = 3.0
_hanging: "dict[subprocess.Popen[str], frozenset[str]]" = {}  # with the paths that each was at

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Errand:
    """`module` is run with `order` as a line of JSON on its stdin. `is_idle`: it gets the drive when nobody else wants
    it."""

    module: str
    order: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_idle: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the caches that it works on."""
        return tuple(dict.fromkeys(_paths_in(self.order)))


def _paths_in(order: Mapping[str, Any]) -> Iterator[str]:
    for each in order.values():
        if isinstance(each, Mapping) and isinstance(each.get("path"), str):
            yield each["path"]
        elif isinstance(each, Mapping):
            yield from _paths_in(each)


class Place(Protocol):
    """A cache, as far as an errand knows it."""

    @property
    def path(self) -> str: ...
    @property
    def uuid(self) -> str: ...


def place_of(cache: Place) -> dict[str, str]:
    """As the child opens it: a drive without that marker is another one."""
    return {"path": cache.path, "uuid": cache.uuid}


def _just_wait(line: Line) -> None:
    """For whoever wants nothing but the end."""


def finish(
    errand: Errand, *, on_line: Callable[[Line], None] = _just_wait, quiet_seconds: float | None = None
) -> dict[str, Any]:
    """Runs it to its end, and answers what it says of what it did. `on_line` gets its lines, and `{}` for each second
    without one; what it raises ends the errand. Raises ErrandFailed, "stalled" for one that says nothing for so long
    (a minute, unless told otherwise)."""
    limit_seconds, heard_at = STALL_SECONDS if quiet_seconds is None else quiet_seconds, time.monotonic()
    with run_errand(errand) as lines:
        for line in lines:
            if "done" in line:
                return dict(line["done"])
            heard_at = time.monotonic() if line else heard_at
            on_line(line)
            if time.monotonic() - heard_at > limit_seconds:
                raise _silent(errand, seconds=limit_seconds)
    raise AssertionError("an errand's lines end with what is done, or with an error")


def _silent(errand: Errand, *, seconds: float) -> ErrandFailed:
    message = f"{' or '.join(errand.paths)} did not answer for {seconds:g} s: the drive is very slow, asleep or gone."
    return ErrandFailed(message, code="stalled", is_permanent=False)


@contextmanager
def run_errand(errand: Errand) -> Iterator[Iterator[Line]]:
    """Yields the child's lines: `{}` for each second without one, at last `{"done": ...}`. Reading them raises
    ErrandFailed when it fails or dies. The child does not outlive the block, nor this process. Raises CacheUnavailable
    where an earlier one still hangs."""
    child = _start(errand)
    try:
        yield _until_done(child)
    finally:
        _end(child, paths=errand.paths)


def _until_done(child: "subprocess.Popen[str]") -> Iterator[Line]:
    for line in _lines(child):
        if "error" in line:
            raise ErrandFailed(**line["error"])
        yield line
        if "done" in line:
            return
    message = f"The process that did the work ended without a word (exit status {child.wait()})."
    raise ErrandFailed(message, code="errand_died", is_permanent=False)


def _lines(child: "subprocess.Popen[str]") -> Iterator[Line]:
    arrived: queue.Queue[str | None] = queue.Queue()
    assert child.stdout is not None
    stdout = child.stdout

    def read() -> None:
        for text in stdout:
            arrived.put(text)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            text = arrived.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            yield {}
            continue
        if text is None:
            return
        yield json.loads(text)


def _start(errand: Errand) -> "subprocess.Popen[str]":
    _collect_hanging()
    _refuse_second(errand)
    child = subprocess.Popen(
        [*_priority(errand), sys.executable, "-m", errand.module],
        cwd=_PROJECT,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_PROJECT)} | dict(errand.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(errand.order) + "\n")
    child.stdin.flush()  # it stays open: when this process dies, the child reads its end and dies too
    return child


def _refuse_second(errand: Errand) -> None:
    """A drive that hangs costs one process. Of one that was at several drives nobody knows which it was: the others can
    be worked on without it."""
    for paths in list(_hanging.values()):
        if paths and paths.issubset(errand.paths):
            names = " or ".join(sorted(paths))
            raise CacheUnavailable(f"{names} does not answer: a process of ours still hangs on it.")


def _priority(errand: Errand) -> list[str]:
    return ["ionice", "-c3"] if errand.is_idle and shutil.which("ionice") else []


def _end(child: "subprocess.Popen[str]", *, paths: Iterable[str]) -> None:
    """Asks first: the child cleans up. One that hangs on a drive is killed, and dies when the kernel lets it: until
    then its output stays open, for the thread that reads it cannot be interrupted."""
    child.terminate()
    assert child.stdin is not None
    assert child.stdout is not None
    if _is_over(child) or _is_over_after_kill(child):
        child.stdout.close()
    else:
        _hanging[child] = frozenset(paths)
    with suppress(BrokenPipeError):
        child.stdin.close()


def _is_over_after_kill(child: "subprocess.Popen[str]") -> bool:
    child.kill()
    return _is_over(child)


def _is_over(child: "subprocess.Popen[str]") -> bool:
    try:
        child.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _collect_hanging() -> None:
    """No zombies, and no open pipes: what died after all is waited for."""
    for child in [each for each in _hanging if each.poll() is not None]:
        if _hanging.pop(child, None) is not None:  # else another thread was faster
            assert child.stdout is not None
            child.stdout.close()
