"""Who is measured: our whole server, `transformers serve`, and bare `generate`. Each is started here and ended here."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil

from tests.e2e.server import PROJECT, Server, end_group, free_port, running_server, wait_for

START_SECONDS = 180.0
_DEFAULT_SHARE = 0.6
"""Of the machine's memory: what the peer plans with on a CPU, free or not."""
_OTHERS_BYTES = 4 * 10**9
_POLL_SECONDS = 0.02
_SAMPLE_SECONDS = 0.25
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}


def end_cleanly() -> None:
    """A bench that is asked to end ends what it started too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


# Our server


@contextmanager
def our_server(folder: Path, *, models: Sequence[str], **settings: str) -> Iterator[Server]:
    """All that `script/server` starts. It is up when it offers the models, which lie in its fast cache."""
    with running_server(folder, KEEP_ALIVE="-1", **settings) as server:
        wait_for(lambda: set(models) <= _offered(server), seconds=START_SECONDS)
        yield server


def _offered(server: Server) -> set[str]:
    _, answer = server.get("/v1/models")
    return {model["id"] for model in answer["data"]}


def unload(server: Server, model: str) -> None:
    """An answer that its client has read to the end may not be over yet for the server (409)."""
    while (answer := httpx2.post(f"{server.url}/api/models/{model}/unload", timeout=60)).status_code == 409:
        threading.Event().wait(_POLL_SECONDS)
    answer.raise_for_status()


def count_kv_tokens(server: Server) -> int | None:
    """What the KV cache of our loaded model holds; None for an engine without one of a fixed size."""
    _, loaded = server.get("/api/ps")
    return next((model.get("kv_tokens") for model in loaded), None)


def wait_for_standby(server: Server) -> None:
    """Until an engine waits with its libraries imported: it is there, and computes nothing any more.

    To be called after a measurement too: the next one imports at once, and nobody else is measured meanwhile.
    """

    def is_idle() -> bool:
        before = _standby_seconds(server)
        threading.Event().wait(0.5)
        return bool(before) and before == _standby_seconds(server)

    wait_for(is_idle, seconds=START_SECONDS)


def _standby_seconds(server: Server) -> dict[int, float]:
    """Processor time of each engine that waits for its model. One that has its model listens on a socket."""
    seconds = {}
    for process in family(server.process.pid):
        try:
            has_model = any(each.laddr for each in process.net_connections("unix"))
            if "--standby" in process.cmdline() and not has_model:
                seconds[process.pid] = sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return seconds


# The peer


@dataclass(frozen=True)
class PeerServer:
    process: subprocess.Popen[str]
    port: int
    output_path: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_up(self) -> None:
        while not self._answers():
            if self.process.poll() is not None:
                raise SystemExit(f"transformers serve ended: {self.output_path.read_text()[-2000:]}")
            threading.Event().wait(_POLL_SECONDS)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=10) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@contextmanager
def peer_server(*options: str) -> Iterator[PeerServer]:
    """`transformers serve --continuous-batching` on its way up; killed with its children at the end of the block.

    Its quirks: it needs FastAPI, which nothing of ours needs; it knows models by their paths; it asks the Hub about
    models and a registry about updates unless it is told not to. It loads a model with the first request for it.
    """
    _refuse_without(memory_share=0.0 if options else _DEFAULT_SHARE)
    port = free_port()
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", "--continuous-batching", "--host", "127.0.0.1", "--port", str(port), *options]
    with tempfile.NamedTemporaryFile("w") as output:
        process = subprocess.Popen(
            command, env=os.environ | _OFFLINE, stdout=output, stderr=output, text=True, start_new_session=True
        )
        try:
            yield PeerServer(process, port, Path(output.name))
        finally:
            end_group(process)


def _refuse_without(*, memory_share: float) -> None:
    """Rather than have the system kill somebody half-way."""
    if importlib.util.find_spec("fastapi") is None:
        raise SystemExit("transformers serve needs FastAPI: script/setup --dev")
    memory = psutil.virtual_memory()
    needed = memory_share * memory.total + _OTHERS_BYTES
    if memory.available < needed:
        raise SystemExit(
            f"transformers serve and its like need {needed / 10**9:.0f} GB, "
            f"and {memory.available / 10**9:.0f} GB are free. End other programs."
        )


# Bare generate


class Bare:
    """A process that does by hand what it is told: see bench/serving_bare.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def do(self, **order: Any) -> float:
        """Seconds that it took, as the process itself measured them."""
        assert self.process.stdin and self.process.stdout
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


@contextmanager
def bare_process() -> Iterator[Bare]:
    command = [sys.executable, "-m", "bench.serving_bare"]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=os.environ | _OFFLINE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Bare(process)
    finally:
        end_group(process)


# Memory


def family(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def weigh(pid: int) -> int:
    """Bytes of a process and all below it: what is shared with others counts in parts (PSS)."""
    total = 0
    for process in family(pid):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue  # it has ended
    return total


class PeakMemory:
    """`with PeakMemory(pid) as peak: ...`, then `peak.bytes`: the most that a look every quarter of a second saw."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.bytes = 0
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakMemory":
        self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._is_over.wait(_SAMPLE_SECONDS):
            self.bytes = max(self.bytes, weigh(self.pid))
