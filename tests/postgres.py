"""A PostgreSQL server of Debian's package for a test run: in a folder of its own, on a unix socket, gone afterwards."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_USER = 65534  # PostgreSQL refuses to run as root
_START_SECONDS = 30


def find_programs() -> Path | None:
    """The folder of the newest installed version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[str]:
    """Yields the URL of a fresh server. Nothing is made durable: it lives as long as the tests."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path may have 107 bytes
    as_user: list[str] = []
    if os.getuid() == 0:
        os.chown(folder, _USER, _USER)
        as_user = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]
    initdb = [f"{programs}/initdb", "-D", f"{folder}/data", "-U", "homelab", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run([*as_user, *initdb], check=True, capture_output=True, cwd=folder)
    options = ["-k", f"{folder}", "-c", "listen_addresses=", "-c", "fsync=off", "-c", "synchronous_commit=off"]
    serve = [f"{programs}/postgres", "-D", f"{folder}/data", *options]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([*as_user, *serve], cwd=folder, stdout=log, stderr=log)
        try:
            _wait_until_ready(server, programs, folder)
            yield f"postgres://homelab@/homelab?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # a fast shutdown: open connections are closed
            server.wait(timeout=30)
            shutil.rmtree(folder)


def _wait_until_ready(server: subprocess.Popen[bytes], programs: Path, folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while subprocess.run([programs / "pg_isready", "-q", "-h", folder], check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.05)
