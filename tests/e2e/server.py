"""A whole server as a user starts it, on a free port, with a data folder and caches of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 30
STOP_SECONDS = 10
Result = TypeVar("Result")
SMALL_DRIVES = {"PRIMARY_CACHE_LIMIT_GB": "0.1", "SECONDARY_CACHE_LIMIT_GB": "1", "DISK_RESERVE_GB": "0.1"}
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONDONTWRITEBYTECODE", "COVERAGE_PROCESS_START", "OMP_NUM_THREADS")


def wait_for(condition: Callable[[], Result | None], *, seconds: float = PATIENCE_SECONDS) -> Result:
    """The first true value of the condition; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Still not true after {seconds} s.")
        threading.Event().wait(0.05)
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_environment(folder: Path, *, port: int, **others: str) -> dict[str, str]:
    """Nothing of the user's settings; caches below `folder`."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    caches = {"PRIMARY_CACHE_PATH": str(folder / "fast"), "SECONDARY_CACHE_PATH": str(folder / "slow")}
    for path in caches.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    settings = {"HOMELAB_ENV_FILE": os.devnull, "DATA_DIR": str(folder / "data"), "PORT": str(port)}
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "CACHE_ALLOWED_ROOTS": str(folder)}
    return kept | caches | settings | hub | others


def run_command(
    *words: str, folder: Path, port: int, seconds: float = 120, **settings: str
) -> subprocess.CompletedProcess[str]:
    """`manage.py WORDS` in a shell of the owner of the server in that folder."""
    environment = make_environment(folder, port=port, **settings)
    command = [sys.executable, "manage.py", *words]
    return subprocess.run(
        command, cwd=PROJECT, env=environment, check=False, capture_output=True, text=True, timeout=seconds
    )


def launch(environment: dict[str, str], *arguments: str, output: int | Any = subprocess.PIPE) -> subprocess.Popen[str]:
    """In a session of its own, so that a signal to its group is what a terminal sends for Ctrl-C."""
    command = [sys.executable, "-m", "homelab.launch", *arguments]
    return subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=output, stderr=output, text=True, start_new_session=True
    )


def refusal(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """The exit code and what stands on stderr, of a start that is expected to fail."""
    process = launch(environment, *arguments)
    try:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        end_group(process)
    return process.returncode, errors


def end_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    data_dir: Path
    output_path: Path
    started: float = field(default_factory=time.monotonic)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, Any]:
        """The status and the JSON of the answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def is_up(self) -> bool:
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def has_measured(self) -> bool:
        """The worker's first look at both drives, which comes a moment after the first answer."""
        stats = self.get("/api/cache/stats")[1]
        return all(stats[name]["status"] == "ok" for name in ("primary", "secondary"))

    def wait_until_up(self) -> float:
        """Seconds from the start to the first good answer."""

        def is_up_or_gone() -> bool:
            assert self.process.poll() is None, self.output()
            return self.is_up()

        wait_for(is_up_or_gone)
        return time.monotonic() - self.started

    def output(self) -> str:
        """What the terminal shows."""
        return self.output_path.read_text()

    def processes(self) -> list[psutil.Process]:
        """Every living process that was started with our DATA_DIR, orphans too."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            return is_alive and process.environ().get("DATA_DIR") == str(self.data_dir)
        except psutil.Error:
            return False

    def program(self, name: str) -> psutil.Process | None:
        """The process that the supervisor started under this name; not its own children."""
        for process in self.processes():
            with suppress(psutil.Error):
                if process.ppid() == self.process.pid and process.environ().get("SUPERVISOR_PROCESS_NAME") == name:
                    return process
        return None

    def wait_for_program(self, name: str, *, other_than: int = 0, seconds: float = PATIENCE_SECONDS) -> psutil.Process:
        """The program once it is itself: no longer the supervisor's copy or setpriv on the way to it."""

        def find() -> psutil.Process | None:
            process = self.program(name)
            with suppress(psutil.Error):
                if process and process.pid != other_than and process.name() not in {"setpriv", "supervise"}:
                    return process
            return None

        return wait_for(find, seconds=seconds)

    def press_ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def stop(self) -> None:
        """Ctrl-C; whatever is left after that is killed, so that a failing test leaves nothing behind."""
        if self.process.poll() is None:
            self.press_ctrl_c()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS + 5)
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        end_group(self.process)


def start_server(folder: Path, *arguments: str, port: int | None = None, **settings: str) -> Server:
    """A second call with the same folder finds the data of the first."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    environment = make_environment(folder, port=port, **settings)
    output_path = folder / "terminal.txt"
    with open(output_path, "w", encoding="utf-8") as output:
        process = launch(environment, *arguments, output=output)
    return Server(process=process, port=port, data_dir=Path(environment["DATA_DIR"]), output_path=output_path)


@contextmanager
def running_server(folder: Path, *arguments: str, **settings: Any) -> Iterator[Server]:
    """A server that answers; stopped at the end."""
    server = start_server(folder, *arguments, **settings)
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()
