"""A hub on loopback that misbehaves on demand, for the tests of downloads. It logs every request."""

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from demo.hub import Hub, Span
from demo.repos import HubFile, HubRepo


@dataclass
class Faults:
    """What goes wrong. `cut_after` and `garble` name files; `refuse` maps a file to the statuses of its next answers."""

    rate_bytes_per_second: int | None = None
    cut_after: dict[str, int] = field(default_factory=dict)
    garble: set[str] = field(default_factory=set)
    refuse: dict[str, list[int]] = field(default_factory=dict)
    stall: bool = False
    gate_repos: bool = False
    lie_about_sizes: int | None = None


class FaultyHub(Hub):
    def __init__(self, repos_folder: Path) -> None:
        super().__init__(repos_folder)
        self.faults = Faults()
        self.requests: Counter[str] = Counter()
        self.endpoint = ""

    def find_repo(self, request: Request) -> HubRepo:
        self.requests[f"{request.method} {request.url.path}"] += 1
        return super().find_repo(request)

    def show_model(self, request: Request) -> Response:
        if self.faults.gate_repos:
            headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": "This repo is gated."}
            return JSONResponse({"error": "gated"}, status_code=403, headers=headers)
        return super().show_model(request)

    async def answer_file(self, request: Request, *, repo: HubRepo, file: HubFile) -> Response:
        statuses = self.faults.refuse.get(file.name, [])
        if statuses and request.method == "GET":
            return Response(status_code=statuses.pop(0), headers={"Retry-After": "0"})
        self.rate_bytes_per_second = self.faults.rate_bytes_per_second
        return await super().answer_file(request, repo=repo, file=file)

    async def read_bytes(self, file: HubFile, *, span: Span) -> AsyncIterator[bytes]:
        limit = self.faults.cut_after.pop(file.name, None)
        sent = 0
        async for block in super().read_bytes(file, span=span):
            while self.faults.stall:
                await asyncio.sleep(0.05)
            if limit is not None and sent + len(block) > limit:
                yield block[: limit - sent]
                raise ConnectionResetError("cut by the test")
            sent += len(block)
            yield bytes(byte ^ 1 for byte in block) if file.name in self.faults.garble else block

    def downloads_of(self, name: str) -> int:
        """How many times a file's bytes were asked for."""
        return sum(
            count for path, count in self.requests.items() if path.startswith("GET") and path.endswith(f"/{name}")
        )

    @contextmanager
    def serve(self) -> Iterator["FaultyHub"]:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(self.make_app(), log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        self.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield self
        finally:
            server.should_exit = server.force_exit = True
            thread.join(timeout=10)
            listener.close()
