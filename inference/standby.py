"""One engine process that has its libraries in memory and waits for an order: a load that takes it is seconds shorter.

It is nobody's memory: the next load takes it over, so whoever plans may count its bytes as free. A new one is started
when a load has ended, and only where there is room to spare beside all that is promised to engines.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Sequence

from django.conf import settings

from inference.places import Device
from inference.process import EnginePlan, EngineProcess, end_process, open_log, spawn

logger = logging.getLogger(__name__)

_USUAL_BYTES = 500 * 10**6
_SPARE_SHARE = 0.1
"""Of the memory: as much stays free beside it."""


class Standby:
    def __init__(self, *, is_wanted: bool) -> None:
        self.is_wanted = is_wanted
        self._process: asyncio.subprocess.Process | None = None
        self._line: socket.socket | None = None
        self._filling = asyncio.Lock()

    @property
    def is_waiting(self) -> bool:
        return self.pid is not None

    @property
    def is_missing(self) -> bool:
        return self.is_wanted and not self.is_waiting

    @property
    def pid(self) -> int | None:
        """Of the one that waits."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def fill(self, main_memory: Device) -> None:
        """Starts one, if it is missing and there is room in what is free, and promised to nobody."""
        async with self._filling:
            if self.is_missing and _has_room(main_memory):
                await self.close()
                await self._start()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, open_log(settings.DATA_DIR / "logs" / "engine-standby.log") as log:
            self._line = ours
            self._process = await spawn(
                ["--standby"], project_path=settings.BASE_DIR, output=log.fileno(), stdin=theirs.fileno()
            )

    def take(self, plan: EnginePlan, *, inherits: Sequence[int]) -> EngineProcess | None:
        """Gives it its order, and copies of `inherits`. None where none waits."""
        process, line = self._process, self._line
        if process is None or line is None or not self.is_waiting:
            return None
        self._process = self._line = None
        order = json.dumps({"arguments": plan.arguments}).encode() + b"\n"
        with open_log(plan.log_path) as log:
            try:
                socket.send_fds(line, [order], [log.fileno(), *inherits])
            except OSError as error:
                logger.warning("The engine on standby takes no order: %s", error)
                line.close()
                return None
        return EngineProcess(plan, process, lifeline=line)

    async def close(self) -> None:
        process, line, self._process, self._line = self._process, self._line, None, None
        if process is not None:
            await end_process(process)
        if line is not None:
            line.close()


def _has_room(main_memory: Device) -> bool:
    spare = main_memory.total_bytes * _SPARE_SHARE
    return main_memory.free_bytes - _USUAL_BYTES >= spare
