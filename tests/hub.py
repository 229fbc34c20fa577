"""A hub on loopback that misbehaves on demand, for the tests of downloads. It logs every request."""

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from demo.hub import Hub, Span
from demo.repos import HubFile, HubRepo


@dataclass
class Faults:
    """What goes wrong. `cut_after` and `garble` name files; `refuse` maps a file to the statuses of its next answers,
    which carry `retry_after`. `truncate`: the file is shorter than the list says; `declare`: the list says a size, and
    the file is sent in full; `no_length`: nor does its answer say how long it is. `also_listed` are more names.

    `lies` replace what the list says of the model, and `lies_of` what it says of a file; `answer` takes the list's
    place, and `endless` follows it for ever. `detours`: where a file is, or with "" the list, says a redirect. `etag`
    is every file's."""

    rate_bytes_per_second: int | None = None
    cut_after: dict[str, int] = field(default_factory=dict)
    garble: set[str] = field(default_factory=set)
    refuse: dict[str, list[int]] = field(default_factory=dict)
    stall: bool = False
    gate_repos: bool = False
    retry_after: str = "0"
    truncate: dict[str, int] = field(default_factory=dict)
    declare: dict[str, int] = field(default_factory=dict)
    no_length: bool = False
    no_ranges: bool = False
    also_listed: list[str] = field(default_factory=list)
    lies: dict[str, Any] = field(default_factory=dict)
    lies_of: dict[str, dict[str, Any]] = field(default_factory=dict)
    answer: bytes | None = None
    answer_status: int = 200
    answer_headers: dict[str, str] = field(default_factory=dict)
    endless: bytes = b""
    detours: dict[str, str] = field(default_factory=dict)
    etag: str = ""


class FaultyHub(Hub):
    def __init__(self, repos_folder: Path) -> None:
        super().__init__(repos_folder)
        self.faults = Faults()
        self.requests: Counter[str] = Counter()
        self.sent_bytes: Counter[str] = Counter()
        self.ranges: list[tuple[str, str]] = []
        self.endpoint = ""
        self.authorizations: set[str | None] = set()

    def find_repo(self, request: Request) -> HubRepo:
        self.requests[f"{request.method} {request.url.path}"] += 1
        self.authorizations.add(request.headers.get("Authorization"))
        return super().find_repo(request)

    def show_model(self, request: Request) -> Response:
        if self.faults.gate_repos:
            headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": "This repo is gated."}
            return JSONResponse({"error": "gated"}, status_code=403, headers=headers)
        if "" in self.faults.detours:
            return RedirectResponse(self.faults.detours[""])
        if (answer := self.faults.answer) is not None:
            return StreamingResponse(self.say(answer), self.faults.answer_status, headers=self.faults.answer_headers)
        return JSONResponse(self.falsify(json.loads(super().show_model(request).body)))

    async def say(self, answer: bytes) -> AsyncIterator[bytes]:
        yield answer
        while self.faults.endless:
            self.sent_bytes["lists"] += len(self.faults.endless)
            yield self.faults.endless
            await asyncio.sleep(0 if len(self.faults.endless) > 1 else 0.1)

    def falsify(self, model: dict[str, Any]) -> dict[str, Any]:
        for sibling in model["siblings"]:
            if sibling["rfilename"] in self.faults.declare:
                sibling["size"] = self.faults.declare[sibling["rfilename"]]
        small = {"size": 1, "blobId": "a" * 40}
        model["siblings"] += [{"rfilename": name} | small for name in self.faults.also_listed]
        for sibling in model["siblings"]:
            sibling |= self.faults.lies_of.get(sibling["rfilename"], {})
        return model | self.faults.lies

    async def answer_file(self, request: Request, *, repo: HubRepo, file: HubFile) -> Response:
        statuses = self.faults.refuse.get(file.name, [])
        if statuses and request.method == "GET":
            return Response(status_code=statuses.pop(0), headers={"Retry-After": self.faults.retry_after})
        if file.name in self.faults.detours:
            return RedirectResponse(self.faults.detours[file.name])
        self.rate_bytes_per_second = self.faults.rate_bytes_per_second
        if self.faults.no_ranges:
            request.scope["headers"] = [each for each in request.scope["headers"] if each[0] != b"range"]
        self.ranges += [(file.name, asked)] if (asked := request.headers.get("Range", "")) else []
        file = replace(file, size_bytes=self.faults.truncate.get(file.name, file.size_bytes))
        response = await super().answer_file(request, repo=repo, file=file)
        if self.faults.no_length:
            del response.headers["Content-Length"]
        if self.faults.etag:
            response.headers["ETag"] = response.headers["X-Linked-Etag"] = self.faults.etag
        return response

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
            self.sent_bytes[file.name] += len(block)
            yield bytes(byte ^ 1 for byte in block) if file.name in self.faults.garble else block

    def hurry(self) -> None:
        """As fast as it goes from now on, also for what runs."""
        self.faults.rate_bytes_per_second = self.rate_bytes_per_second = None

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
