"""An engine that waits with its libraries imported, and is given its model over a socket."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.inference.engine.conftest import START_SECONDS, make_command, wait_until


@dataclass
class Standby:
    """`line` is our end of its stdin; `early` is where its words go before it has a log."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    early: Path

    def order(self, content: bytes, *, files: list[int]) -> None:
        socket.send_fds(self.line, [content], files)

    def has_imported(self) -> bool:
        """torch is in its memory."""
        return "libtorch_cpu" in Path(f"/proc/{self.process.pid}/maps").read_text()


@contextmanager
def start_standby(folder: Path) -> Iterator[Standby]:
    ours, theirs = socket.socketpair()
    early = folder / "early"
    with theirs, ours, early.open("wb") as errors:
        command = [sys.executable, "-m", "inference.engine", "--standby"]
        process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=errors, stderr=errors)
        theirs.close()
        try:
            yield Standby(process, ours, early)
        finally:
            process.kill()
            process.wait()


def make_order(socket_path: Path, *arguments: str, model_path: Path) -> bytes:
    _, _, _, *words = make_command(socket_path, *arguments, model_path=model_path)
    return json.dumps({"arguments": words}).encode() + b"\n"


def open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def is_locked(path: Path) -> bool:
    with path.open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def order_engine(standby: Standby, folder: Path, *, model_path: Path) -> Iterator[httpx2.Client]:
    """In two pieces, with a log and a lock that only it holds afterwards."""
    log = open_log(folder / "log")
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        order = make_order(folder / "s", "--parallel-requests", "3", model_path=model_path)
        standby.order(order[:50], files=[log, lock.fileno()])
        standby.line.sendall(order[50:])
    os.close(log)
    wait_until((folder / "s").exists)
    transport = httpx2.HTTPTransport(uds=str(folder / "s"))
    with httpx2.Client(transport=transport, base_url="http://engine", timeout=60) as client:
        wait_until(lambda: client.get("/health").status_code == 200, seconds=START_SECONDS)
        yield client


def test_it_becomes_the_engine_that_it_is_ordered_to_be_and_dies_with_its_line(
    tmp_path: Path, model_folder: Path
) -> None:
    with start_standby(tmp_path) as standby:
        wait_until(standby.has_imported, seconds=START_SECONDS)
        with order_engine(standby, tmp_path, model_path=model_folder) as client:
            health = client.get("/health").json()
            assert (health["model"], health["backend"], health["parallel_requests"]) == ("tiny", "batching", 3)
            answer = client.post("/v1/completions", json={"prompt": "The sea", "max_tokens": 3})
            assert answer.json()["usage"]["prompt_tokens"] > 0
        assert is_locked(tmp_path / "lock")
        standby.line.close()
        assert standby.process.wait(timeout=10) == 0
    assert not is_locked(tmp_path / "lock")
    assert not (tmp_path / "s").exists()
    assert standby.early.read_bytes() == b""


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (b"nonsense\n", "is not understood"),
        (b'{"arguments": "--socket"}\n', "does not understand its arguments"),
        (b'{"arguments": ["--socket", "/tmp/x"]}\n', "--model-path"),
        (b"{}\n", "is not understood"),
        (
            b'{"arguments": ["--socket", "SOCKET", "--model-path", "/nowhere", "--model-name", "x"]}\n',
            "no model folder",
        ),
    ],
)
def test_an_order_that_fails_is_explained_in_its_log(tmp_path: Path, order: bytes, reason: str) -> None:
    log = open_log(tmp_path / "log")
    with start_standby(tmp_path) as standby:
        standby.order(order.replace(b"SOCKET", str(tmp_path / "s").encode()), files=[log])
        os.close(log)
        assert standby.process.wait(timeout=START_SECONDS) == 3
    *_, last = (tmp_path / "log").read_text().splitlines()
    assert reason in last
    assert standby.early.read_bytes() == b""


def test_it_ends_when_nobody_can_order_any_more(tmp_path: Path) -> None:
    with start_standby(tmp_path) as standby:
        standby.line.close()
        started = time.monotonic()
        assert standby.process.wait(timeout=30) == 0
        assert time.monotonic() - started < 20
