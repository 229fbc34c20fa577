"""Serves the app on a unix socket that only its owner can open, until a signal ends it within two seconds."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn
import uvloop

from inference.engine.app import EngineApp
from inference.engine.backend import Backend
from inference.engine.endings import leave

_BACKLOG = 128
_GRACE_SECONDS = 1
_LAST_MOMENT_SECONDS = 1.8


class EngineServer(uvicorn.Server):
    """uvicorn without its signal handlers: ours must also stop the model."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(backend: Backend, *, listener: socket.socket, model_name: str, exposures: Sequence[str] = ()) -> None:
    """Returns after SIGTERM or SIGINT."""
    app = EngineApp(backend, model_name=model_name, exposures=exposures).make_app()
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        http="httptools",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(EngineServer(config), backend=backend, listener=listener))


def bind(path: Path) -> socket.socket:
    """Mode 0600 from the first moment on. A socket that a dead engine left is replaced; another file is not."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(previous)
    return listener


async def _serve(server: EngineServer, *, backend: Backend, listener: socket.socket) -> None:
    def stop() -> None:
        if backend.get_load().is_idle:
            leave()
        server.should_exit = True
        backend.stop()
        timer = threading.Timer(_LAST_MOMENT_SECONDS, os._exit, args=(0,))
        timer.daemon = True
        timer.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await server.serve(sockets=[listener])
