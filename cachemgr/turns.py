"""One child per filesystem: whoever wants to ask a drive takes its turn, or asks the child whose turn it is.

A turn is a locked file that the child inherits, so it lasts exactly as long as the child: one that hangs in the kernel
keeps it, and no second child gets stuck beside it. A child with long work (a scan) also inherits a listening socket.
It answers short questions there from a thread of its own, so nobody waits for a scan to end; and if the drive stops,
those answers stop too, which is how the others find out.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

from cachemgr.mounts import mount_of, read_mounts

_BACKLOG = 64
_CHUNK_BYTES = 1 << 16
_QUESTION_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn on one filesystem: its name, and the folder of its lock and socket."""

    name: str
    folder: Path

    @contextmanager
    def claim(self) -> Iterator[int | None]:
        """A locked descriptor for the child to inherit; None while another child has it."""
        lock = os.open(self.folder / f"turn-{self.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield lock if _is_locked(lock) else None
        finally:
            os.close(lock)

    @contextmanager
    def listen(self) -> Iterator[socket.socket]:
        """The socket on which the child answers. Only whoever holds the lock calls this."""
        with self._address() as address, socket.socket(socket.AF_UNIX) as listener:
            with suppress(FileNotFoundError):
                os.unlink(address)
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(address)
            listener.listen(_BACKLOG)
            yield listener

    def ask(self, question: dict[str, Any], *, limit_seconds: float) -> dict[str, Any] | None:
        """What the child whose turn it is answers; None where none listens, it ended, or it is not in time."""
        if limit_seconds <= 0:
            return None
        try:
            with self._address() as address, socket.socket(socket.AF_UNIX) as connection:
                deadline = time.monotonic() + limit_seconds
                _limit(connection, deadline=deadline)
                connection.connect(address)
                return _exchange(connection, question, deadline=deadline)
        except OSError:
            return None

    @contextmanager
    def _address(self) -> Iterator[str]:
        """A socket's path may have 107 bytes at most, so it is written by way of the open folder."""
        folder = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{folder}/turn-{self.name}.sock"
        finally:
            os.close(folder)


def turn_on(path: str, *, device: int | None, folder: Path) -> Turn:
    """All caches on one filesystem share a turn, if the path leads there by its text, and it was seen there before.

    Otherwise the path has a turn for itself: a link to a lost NAS must not keep the disk waiting on which it lies.
    """
    mount = mount_of(path, mounts=read_mounts())
    is_known = mount is not None and mount.device == device
    name = f"device {device}" if is_known else f"path {path}"
    return Turn(sha256(os.fsencode(name)).hexdigest()[:16], folder)


def answer_in_background(listener: int, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Starts the thread that answers one question after another, until the process ends."""
    Thread(target=_serve, args=(listener, answer), daemon=True).start()


def _serve(descriptor: int, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with socket.socket(fileno=descriptor) as listener:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError, ValueError):  # who asked has left; or the path is no path
                question = _received(connection, deadline=time.monotonic() + _QUESTION_SECONDS)
                connection.sendall(json.dumps(answer(json.loads(question))).encode())


def _exchange(connection: socket.socket, question: dict[str, Any], *, deadline: float) -> dict[str, Any] | None:
    connection.sendall(json.dumps(question).encode())
    connection.shutdown(socket.SHUT_WR)
    text = _received(connection, deadline=deadline)
    return json.loads(text) if text else None


def _received(connection: socket.socket, *, deadline: float) -> bytes:
    """All that the other side sends. Raises TimeoutError, an OSError, after the deadline."""
    chunks: list[bytes] = []
    while True:
        _limit(connection, deadline=deadline)
        chunk = connection.recv(_CHUNK_BYTES)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _limit(connection: socket.socket, *, deadline: float) -> None:
    connection.settimeout(max(0.001, deadline - time.monotonic()))


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
