"""One engine: a child process that serves one model on a unix socket, and how to talk to it."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from inference.errors import EngineFailed

_POLL_SECONDS = 0.05
_STOP_SECONDS = 3.0
_LAST_WORDS_BYTES = 2000


@dataclass(frozen=True)
class EnginePlan:
    """What to start: paths are absolute. The log is appended to."""

    model_name: str
    snapshot_path: Path
    socket_path: Path
    log_path: Path
    project_path: Path


class EngineProcess:
    """Start it, wait until it is ready, send it requests, stop it. It dies with us: it watches its stdin."""

    def __init__(self, plan: EnginePlan, process: asyncio.subprocess.Process) -> None:
        self.plan = plan
        self.process = process
        self.client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(plan.socket_path)),
            base_url="http://engine",
            timeout=httpx2.Timeout(None, connect=5.0),
        )
        self.facts: dict[str, Any] = {}

    @classmethod
    async def start(cls, plan: EnginePlan, *, inherits: Sequence[int] = ()) -> "EngineProcess":
        """The engine gets copies of the file descriptors `inherits`, and keeps them open as long as it lives."""
        plan.socket_path.unlink(missing_ok=True)
        plan.log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        arguments = [
            "--socket",
            str(plan.socket_path),
            "--model-path",
            str(plan.snapshot_path),
            "--model-name",
            plan.model_name,
        ]
        with open(plan.log_path, "ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "inference.engine",
                *arguments,
                cwd=plan.project_path,
                env=_environment(plan.project_path),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=inherits,
            )
        return cls(plan, process)

    async def wait_until_ready(self) -> float:
        """Seconds that it took. Raises EngineFailed, with the engine's last words, when it ends instead."""
        started = time.monotonic()
        while self.process.returncode is None:
            try:
                answer = await self.client.get("/health")
            except httpx2.TransportError:
                await asyncio.sleep(_POLL_SECONDS)
                continue
            self.facts = answer.json()
            if answer.status_code == 200:
                return time.monotonic() - started
            await asyncio.sleep(_POLL_SECONDS)
        raise EngineFailed(f"{self.plan.model_name} could not be loaded: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of its log that says something."""
        with open(self.plan.log_path, "rb") as log:
            log.seek(max(0, self.plan.log_path.stat().st_size - _LAST_WORDS_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")

    async def stop(self) -> None:
        """Asks, then kills the whole group; gone when this returns."""
        await self.client.aclose()
        if self.process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), _STOP_SECONDS)
            except TimeoutError:
                self._signal(signal.SIGKILL)
                await self.process.wait()
        self.plan.socket_path.unlink(missing_ok=True)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return  # it ended by itself in this moment


def _environment(project: Path) -> dict[str, str]:
    """No secrets, no hub: what a model's files make an engine do stays in here."""
    kept = (
        "PATH",
        "LANG",
        "LD_LIBRARY_PATH",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "OPENBLAS_CORETYPE",
        "OPENBLAS_L2_SIZE",
    )
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONPATH": str(project),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HOME": "/nonexistent",
    }
