"""The whole server in trouble: more clients than it takes, and a web process that is killed."""

import asyncio
import json
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from tests.e2e.server import Server, running_server, wait_for
from tests.factories import make_cached_repo
from tests.inference.conftest import BUSY_SECONDS

pytestmark = pytest.mark.e2e
CLIENTS = 200
PLACES = 4
MB = 10**6


def _chat() -> bytes:
    body = {"model": "endless", "max_tokens": 3, "messages": [{"role": "user", "content": "x"}]}
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


CHAT, HEALTH = _chat(), b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, endless_folder: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("trouble")
    files = {path.name: path.read_bytes() for path in endless_folder.iterdir()}
    make_cached_repo(folder / "fast", "demo/endless", files=files)
    settings = {"MAX_QUEUED_REQUESTS": str(PLACES), "KEEP_ALIVE": "-1", "ENGINE_STANDBY": "on"}
    with running_server(folder, **settings) as running:
        wait_for(lambda: any(model["model_name"] == "endless" for model in running.get("/api/models")[1]))
        yield running


@dataclass(frozen=True)
class Outcome:
    status: int
    seconds: float
    headers: dict[str, str]
    body: bytes


async def ask(port: int, everybody: asyncio.Event, *, question: bytes = CHAT) -> Outcome:
    """Connects, waits for the others, and asks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await everybody.wait()
    started = time.monotonic()
    writer.write(question)
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    seconds = time.monotonic() - started
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    content = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return Outcome(int(first.split()[1]), seconds, headers, content)


async def storm(port: int) -> tuple[list[Outcome], list[Outcome]]:
    """Chats, and among them a few who ask for the least that there is: how busy the server is."""
    everybody = asyncio.Event()
    questions = [CHAT if number % 5 else HEALTH for number in range(CLIENTS * 5 // 4)]
    asking = [asyncio.create_task(ask(port, everybody, question=question)) for question in questions]
    await asyncio.sleep(1)
    everybody.set()
    outcomes = list(zip(questions, await asyncio.gather(*asking), strict=True))
    return [each for asked, each in outcomes if asked == CHAT], [each for asked, each in outcomes if asked == HEALTH]


def test_200_at_once_are_served_or_refused_and_none_is_lost(server: Server) -> None:
    requests.post(f"{server.url}/api/models/endless/load", timeout=120).raise_for_status()
    asyncio.run(storm(server.port))
    web = server.program("web")
    before = web.memory_info().rss
    outcomes, glances = asyncio.run(storm(server.port))
    assert web.memory_info().rss - before < 50 * MB
    counted = Counter(outcome.status for outcome in outcomes)
    assert counted[200] >= PLACES and counted[200] + counted[503] == CLIENTS
    refused = [outcome for outcome in outcomes if outcome.status == 503]
    assert {glance.status for glance in glances} == {200}
    glance_seconds = statistics.median(glance.seconds for glance in glances)
    assert statistics.median(outcome.seconds for outcome in refused) < 2 * glance_seconds
    for outcome in refused:
        assert outcome.headers["retry-after"] == "5" and outcome.headers["x-should-retry"] == "true"
        assert json.loads(outcome.body)["error"]["code"] == "overloaded"
    assert asyncio.run(one(server.port)).status == 200


async def one(port: int) -> Outcome:
    now = asyncio.Event()
    now.set()
    return await ask(port, now)


def test_a_client_that_never_ends_its_head_holds_no_place(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n")
        slow.settimeout(10 + BUSY_SECONDS)
        assert slow.recv(100) == b""
    assert asyncio.run(one(server.port)).status == 200


def engines_of(web: psutil.Process) -> list[psutil.Process]:
    return [child for child in web.children() if "inference.engine" in child.cmdline()]


def test_no_engine_and_no_standby_outlives_a_killed_web_process(server: Server) -> None:
    requests.post(f"{server.url}/api/models/endless/load", timeout=120).raise_for_status()
    web = server.program("web")
    wait_for(lambda: len(engines_of(web)) == 2)
    engines = engines_of(web)
    assert sum("--standby" in engine.cmdline() for engine in engines) >= 1
    web.kill()
    _, alive = psutil.wait_procs(engines, timeout=5)
    assert not alive
    server.wait_for_program("web", other_than=web.pid)
    wait_for(server.is_up)
    assert asyncio.run(one(server.port)).status == 200
