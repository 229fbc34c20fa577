"""Errands: long work, done by a child process that can be killed, and followed line by line."""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cachemgr.errors import ErrandFailed

STALL_SECONDS = 60.0
_PROJECT = Path(__file__).resolve().parent.parent
_TICK_SECONDS = 1.0
_STOP_SECONDS = 3.0
_hanging: "list[subprocess.Popen[str]]" = []

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Errand:
    """`module` is run with `order` as a line of JSON on its stdin. `is_idle`: it gets the drive when nobody else wants
    it."""

    module: str
    order: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_idle: bool = False


@contextmanager
def run_errand(errand: Errand) -> Iterator[Iterator[Line]]:
    """Yields the child's lines: `{}` for each second without one, at last `{"done": ...}`. Reading them raises
    ErrandFailed when it fails or dies. The child does not outlive the block, nor this process."""
    child = _start(errand)
    try:
        yield _until_done(child)
    finally:
        _end(child)


def _until_done(child: "subprocess.Popen[str]") -> Iterator[Line]:
    for line in _lines(child):
        if "error" in line:
            raise ErrandFailed(**line["error"])
        yield line
        if "done" in line:
            return
    message = f"The process that did the work ended without a word (exit status {child.wait()}). It is tried again."
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


def _priority(errand: Errand) -> list[str]:
    return ["ionice", "-c3"] if errand.is_idle and shutil.which("ionice") else []


def _end(child: "subprocess.Popen[str]") -> None:
    """Asks first: the child cleans up. One that hangs on a drive is killed, and dies when the kernel lets it: until
    then its output stays open, for the thread that reads it cannot be interrupted."""
    child.terminate()
    assert child.stdin is not None
    assert child.stdout is not None
    if _is_over(child) or _is_over_after_kill(child):
        child.stdout.close()
    else:
        _hanging.append(child)
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
        with suppress(ValueError):  # another thread was faster
            _hanging.remove(child)
            assert child.stdout is not None
            child.stdout.close()
