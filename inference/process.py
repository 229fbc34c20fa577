"""One engine: a child process that serves one model on a unix socket, and how to talk to it."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homelab.errors import HomelabError
from inference import link
from inference.endings import Ending, count_oom_kills
from inference.stages import Stage, stage_of_health

STOP_SECONDS = 2.5
_POLL_SECONDS = 0.03
_LAST_WORDS_BYTES = 4000


@dataclass(frozen=True)
class EnginePlan:
    """What to start: paths are absolute. The log is appended to. `options` are further words of the engine's command
    line, without their dashes: {"context-length": 4096}. It is given `needed_bytes` of the memory, of `free_bytes`."""

    model_name: str
    snapshot_path: Path
    socket_path: Path
    log_path: Path
    project_path: Path
    options: Mapping[str, str | int] = field(default_factory=dict)
    needed_bytes: int = 0
    free_bytes: int = 0

    @property
    def arguments(self) -> list[str]:
        words = {
            "socket": self.socket_path,
            "model-path": self.snapshot_path,
            "model-name": self.model_name,
            **self.options,
        }
        return [part for name, value in words.items() for part in (f"--{name}", str(value))]


class EngineProcess:
    """Start it, wait until it is ready, send it requests, stop it. It dies with us: it watches its stdin.

    `log_start` is where its own words begin in the log. `oom_kills`: those that it has outlived, by its last answer.
    `verdict`: why we ended it, for those who still wait for it.
    """

    def __init__(self, plan: EnginePlan, process: asyncio.subprocess.Process, *, lifeline: socket.socket | None = None):
        self.plan = plan
        self.process = process
        self.lifeline = lifeline
        self.log_start = plan.log_path.stat().st_size
        self.oom_kills = count_oom_kills()
        self.facts: dict[str, Any] = {}
        self.verdict: HomelabError | None = None

    @classmethod
    async def start(cls, plan: EnginePlan, *, inherits: Sequence[int] = ()) -> "EngineProcess":
        """The engine gets copies of the file descriptors `inherits`, and keeps them open as long as it lives."""
        plan.socket_path.unlink(missing_ok=True)
        with open_log(plan.log_path) as log:
            process = await spawn(
                plan.arguments, project_path=plan.project_path, output=log.fileno(), inherits=inherits
            )
        return cls(plan, process)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    async def send(self, method: str, target: str, *, body: bytes = b"") -> link.Answer:
        """Raises LinkBroken."""
        return await link.send(self.plan.socket_path, method, target, body=body)

    async def get(self, target: str, *, limit_seconds: float) -> tuple[int, Any]:
        """Status and JSON. Raises LinkBroken, TimeoutError."""
        oom_kills = count_oom_kills()
        answer = await link.get_json(self.plan.socket_path, target, limit_seconds=limit_seconds)
        self.oom_kills = oom_kills
        return answer

    async def wait_until_ready(self, *, on_stage: Callable[[Stage], None], silent_seconds: float) -> None:
        """Tells each stage. Raises what its end means when it ends instead, and TimeoutError when it says nothing."""
        answered_at = time.monotonic()
        while self.is_alive:
            try:
                status, self.facts = await self.get("/health", limit_seconds=silent_seconds)
            except link.LinkBroken as error:
                if time.monotonic() - answered_at > silent_seconds:
                    raise TimeoutError from error
            else:
                if status == 200:
                    return
                answered_at = time.monotonic()
                on_stage(stage_of_health(self.facts))
            await asyncio.sleep(_POLL_SECONDS)
        raise self.explain_end(was_loading=True)

    async def wait_for_end(self, *, seconds: float) -> bool:
        """True once it is gone."""
        try:
            async with asyncio.timeout(seconds):
                await self.process.wait()
        except TimeoutError:
            return False
        return True

    def explain_end(self, *, was_loading: bool = False) -> HomelabError:
        """Once it has ended, or its connections broke: why we ended it, else what its exit means."""
        if self.verdict is not None:
            return self.verdict
        ending = Ending(
            model_name=self.plan.model_name,
            exit_code=self.process.returncode,
            last_words=self.last_words(),
            was_loading=was_loading,
            was_out_of_memory=count_oom_kills() > self.oom_kills,
            needed_bytes=self.plan.needed_bytes,
            free_bytes=self.plan.free_bytes,
        )
        return ending.explain()

    def last_words(self) -> str:
        """The last line of its log that says something, or "": also where the log is gone."""
        try:
            with open(self.plan.log_path, "rb") as log:
                log.seek(max(self.log_start, os.fstat(log.fileno()).st_size - _LAST_WORDS_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    async def stop(self) -> None:
        """Asks, then kills the whole group; gone when this returns."""
        await end_process(self.process)
        if self.lifeline is not None:
            self.lifeline.close()
        self.plan.socket_path.unlink(missing_ok=True)


def open_log(path: Path) -> Any:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return open(path, "ab")


async def spawn(
    arguments: Sequence[str],
    *,
    project_path: Path,
    output: int,
    stdin: int = asyncio.subprocess.PIPE,
    inherits: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    """In a group of its own, with nothing of our environment that is not on the list."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "inference.engine",
        *arguments,
        cwd=project_path,
        env=_environment(project_path),
        stdin=stdin,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=inherits,
    )


async def end_process(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
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
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # so that cuda:1 is the card that NVML calls 1
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HOME": "/nonexistent",
    }
