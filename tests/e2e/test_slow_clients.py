"""Clients that send little, or much, and never come to an end: they cost no memory to speak of, and others are served."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.e2e.server import Server, running_server, wait_for

pytestmark = pytest.mark.e2e
MIB = 1024 * 1024
MOST_GROWTH = 40 * MIB
HEAD = "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("slow"), MAX_EVENT_STREAMS="3") as running:
        running.wait_for_program("web")
        for _ in range(20):  # whatever grows at the first requests has grown
            assert running.get("/api/cache/stats")[0] == 200
        yield running


def memory_of(server: Server) -> int:
    return server.wait_for_program("web").memory_info().rss


def open_connection(server: Server, stack: ExitStack, data: bytes) -> socket.socket:
    sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
    sock.sendall(data)
    return sock


def request_head(path: str, *, length: int | None, **more: str) -> bytes:
    how = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
    return HEAD.format(path=path, more=f"{how}\r\n{lines}").encode()


SLOW = {
    "silent": b"",
    "in the head": b"GET /api/cache/stats HTTP/1.1\r\nHost: local",
    "in a long head": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Padding: " + b"x" * 60_000,
    "in the body": request_head("/api/models", length=1000) + b'{"model_name": ',
    "in a large body": request_head("/api/models", length=MIB) + b'{"model_name": "' + b"x" * 60_000,
    "in the parts of a chat": request_head("/v1/chat/completions", length=None) + b"5\r\n{'a':\r\n",
    "in a login": request_head("/admin/login/", length=15_000) + b"username=a",
    "a stranger's body": request_head("/api/models", length=10**9, Origin="https://evil.example") + b"x" * 60_000,
}


@pytest.mark.parametrize("kind", SLOW)
def test_two_hundred_slow_clients_cost_nothing_and_others_are_served(server: Server, kind: str) -> None:
    before = memory_of(server)
    with ExitStack() as stack:
        for _ in range(200):
            open_connection(server, stack, SLOW[kind])
        took = []
        for _ in range(10):
            began = time.monotonic()
            assert server.get("/api/cache/stats")[0] == 200
            took.append(time.monotonic() - began)
        assert memory_of(server) - before < MOST_GROWTH
        assert sorted(took)[5] < 0.5
    assert server.get("/health")[0] == 200


def test_a_strangers_body_is_not_read(server: Server) -> None:
    """The refusal comes at once, and the connection ends: what the buffers between us hold is all that ever came."""
    with ExitStack() as stack:
        sock = open_connection(server, stack, request_head("/api/models", length=10**9, Origin="https://evil.example"))
        answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 403")
        with pytest.raises(OSError):
            for _ in range(1000):
                sock.sendall(b"x" * MIB)


def test_many_headers_are_refused_and_cost_nothing(server: Server) -> None:
    before = memory_of(server)
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(20_000))
    for _ in range(20):
        with ExitStack() as stack:
            sock = open_connection(server, stack, b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            try:
                sock.sendall(lines + b"\r\n")
                assert not (answer := sock.recv(100)) or answer.startswith(b"HTTP/1.1 400")
            except OSError:
                continue
    assert memory_of(server) - before < MOST_GROWTH


def test_large_bodies_never_reach_a_disk_and_are_let_go_by(server: Server, tmp_path: Path) -> None:
    web = server.wait_for_program("web")
    before = web.memory_info().rss
    answer = requests.post(
        f"{server.url}/api/models", data=b"x" * (30 * MIB), headers={"Content-Type": "application/json"}, timeout=30
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    answer = requests.post(
        f"{server.url}/v1/chat/completions",
        data=b"x" * (30 * MIB),
        headers={"Content-Type": "application/json"},
        timeout=30,
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert web.memory_info().rss - before < MOST_GROWTH
    assert not [file.path for file in web.open_files() if "/tmp" in file.path and "data" not in file.path]


def test_so_many_streams_may_be_open_and_one_more_is_told_to_wait(server: Server) -> None:
    parts: list[Iterator[bytes]] = []
    with ExitStack() as stack:
        for path in ("/api/jobs/events", "/api/ps/events", "/api/jobs/events"):
            stream = stack.enter_context(requests.get(server.url + path, stream=True, timeout=10))
            parts.append(stream.iter_content(1))  # without it, nobody reads, and the connection ends
            assert stream.status_code == 200 and next(parts[-1])
        refused = requests.get(f"{server.url}/api/ps/events", timeout=10)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert refused.json()["error"]["code"] == "too_many_streams"
    wait_for(lambda: _stream_opens(server))


def _stream_opens(server: Server) -> bool:
    with requests.get(f"{server.url}/api/ps/events", stream=True, timeout=10) as stream:
        return stream.status_code == 200


def test_a_key_that_asks_too_often_is_told_to_wait_in_the_shape_of_each_api(tmp_path: Path) -> None:
    with running_server(tmp_path, LOCAL_TRUST="off", REQUESTS_PER_MINUTE="20") as server:
        bearer = {"Authorization": f"Bearer {(server.data_dir / 'first-api-key').read_text().strip()}"}
        answers = [requests.get(f"{server.url}/v1/models", headers=bearer, timeout=10) for _ in range(25)]
        assert {answer.status_code for answer in answers} == {200, 429}
        refused = answers[-1]
        assert refused.status_code == 429 and 1 <= int(refused.headers["Retry-After"]) <= 3
        assert refused.json()["error"]["type"] == "rate_limit_error" and refused.headers["x-should-retry"] == "true"
        refused = requests.get(f"{server.url}/api/models", headers=bearer, timeout=10)
        assert refused.status_code == 429 and refused.json()["error"].keys() == {"code", "message", "details"}
        json.dumps(refused.json())
