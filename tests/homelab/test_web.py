"""The web process: its sockets, its answers to what is no HTTP, and the life of the pool."""

import asyncio
import errno
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from homelab import web
from homelab.asgi import PoolLife
from homelab.gate import Message, Receive, Scope, Send
from homelab.web import CannotListen, addresses_of, bind_sockets, explain, server_config

HAS_IPV6 = len(addresses_of("localhost")) == 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], Any], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"Not true after {seconds} s."
        threading.Event().wait(0.01)


# Sockets


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "::1"])
def test_a_loopback_name_means_both_loopback_addresses(host: str) -> None:
    sockets = bind_sockets(host, port=free_port())
    addresses = [sock.getsockname()[0] for sock in sockets]
    for sock in sockets:
        sock.close()
    assert addresses == (["127.0.0.1", "::1"] if HAS_IPV6 else ["127.0.0.1"])


def test_another_address_is_bound_alone() -> None:
    [sock] = bind_sockets("127.0.0.5", port=free_port())
    with sock:
        assert sock.getsockname()[0] == "127.0.0.5"


@pytest.mark.parametrize("family_and_address", addresses_of("localhost"))
def test_a_taken_port_is_a_sentence_with_the_holder_and_the_way_out(family_and_address: Any) -> None:
    family, address = family_and_address
    with socket.socket(family) as other:
        other.bind((address, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            bind_sockets("127.0.0.1", port=port)
    assert f"Port {port} is taken by " in caught.value.message
    assert f"(pid {os.getpid()})" in caught.value.message
    assert "script/server" in caught.value.message


def test_a_failed_bind_leaves_no_socket_open() -> None:
    port = free_port()
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", port))
        other.listen()
        with pytest.raises(CannotListen):
            bind_sockets("localhost", port=port)
    for sock in bind_sockets("localhost", port=port):
        sock.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "x" * 300])
def test_a_host_that_is_not_ours_is_a_sentence(host: str) -> None:
    with pytest.raises(CannotListen, match="no address of this machine"):
        bind_sockets(host, port=free_port())


def test_a_port_of_root_is_a_sentence() -> None:
    sentence = explain(PermissionError(errno.EACCES, "Permission denied"), "127.0.0.1", port=80)
    assert sentence == "Port 80 may be used by root only. Choose a port from 1024 up: PORT=8000 script/server"


def test_the_last_port_has_a_neighbour_too() -> None:
    sentence = explain(OSError(errno.EADDRINUSE, "Address already in use"), "127.0.0.1", port=65535)
    assert "PORT=65534 script/server" in sentence


# HTTP


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        return
    body = json.dumps({"path": scope["path"], "client": scope["client"][0]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def running(app: Any) -> Iterator[int]:
    """The web process's uvicorn in a thread, on both loopback addresses; yields the port."""
    port = free_port()
    server = uvicorn.Server(server_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": bind_sockets("localhost", port=port)})
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        yield port
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def talk(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(data)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        return answer


def test_both_addresses_answer_and_the_peer_is_the_sockets_own() -> None:
    with running(echo) as port:
        for _, address in addresses_of("localhost"):
            connection = http.client.HTTPConnection(address, port, timeout=10)
            connection.request("GET", "/x", headers={"X-Forwarded-For": "10.0.0.1"})
            answer = json.load(connection.getresponse())
            connection.close()
            assert answer == {"path": "/x", "client": address}


def test_no_answer_waits_for_the_clients_acknowledgement() -> None:
    """Head and body are two writes: with Nagle's algorithm the second one waits 40 ms on a kept connection."""
    took = []
    with running(echo) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for _ in range(20):
            started = time.monotonic()
            connection.request("GET", "/x")
            connection.getresponse().read()
            took.append(time.monotonic() - started)
        connection.close()
    assert sorted(took)[10] < 0.03


def test_the_server_does_not_name_its_software() -> None:
    with running(echo) as port:
        answer = talk(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b"\r\nserver:" not in answer.lower()
    assert b"\r\ndate:" in answer.lower()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"hello\r\n\r\n",
    ],
    ids=["two different hosts", "two equal hosts", "no host", "no HTTP"],
)
def test_what_is_no_request_is_answered_in_json(request_bytes: bytes) -> None:
    with running(echo) as port:
        head, _, body = talk(port, request_bytes).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["code"] == "bad_request"


def test_a_head_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    with running(echo) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with pytest.raises(OSError):
            for _ in range(100):
                sock.sendall(b"X-Padding: " + b"x" * 1_000_000 + b"\r\n")


def test_a_body_that_is_no_http_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with running(echo) as port:
        assert talk(port, head + b"no length\r\n").startswith(b"HTTP/1.1 400 Bad Request")
    assert "Exception in ASGI application" not in caplog.text


def test_a_head_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "REQUEST_HEAD_SECONDS", 0.2)
    with running(echo) as port:
        assert talk(port, b"GET / HTTP/1.1\r\nHost: local") == b""
        assert talk(port, b"") == b""


def test_a_kept_connection_is_cut_off_in_the_head_of_its_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "REQUEST_HEAD_SECONDS", 0.2)
    with running(echo) as port:
        answer = talk(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /second HTTP/1.1\r\nHo")
    assert answer.count(b"HTTP/1.1 200") == 1


def test_a_slow_answer_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "REQUEST_HEAD_SECONDS", 0.1)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(0.5)
        await echo(scope, receive, send)

    with running(slow) as port:
        answer = talk(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_body_that_goes_on_after_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "REQUEST_HEAD_SECONDS", 0.3)
    with running(echo) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        sock.sendall(b"x")  # and never more
        assert read_to_the_end(sock) < 1000


def test_who_reads_nothing_of_an_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SILENT_READER_SECONDS", 0.3)
    size = 50_000_000
    ended = threading.Event()

    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await echo(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": b"x" * (size - 1), "more_body": True})
        await send({"type": "http.response.body", "body": b"x"})
        ended.set()

    with running(much) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ended.wait(5)
        assert read_to_the_end(sock) < size


def read_to_the_end(sock: socket.socket) -> int:
    """How many bytes still came. Fails where the connection stays open."""
    count = 0
    try:
        while part := sock.recv(1 << 20):
            count += len(part)
    except ConnectionResetError:
        return count
    return count


# The pool's life


class FakePool:
    def __init__(self, *, fails: bool = False, hangs: bool = False) -> None:
        self.events: list[str] = []
        self.fails = fails
        self.hangs = hangs

    async def start(self) -> None:
        self.events.append("start")
        if self.fails:
            raise OSError("no room for sockets")

    async def close(self) -> None:
        self.events.append("close")
        if self.hangs:
            await asyncio.Event().wait()


def live(pool: FakePool, *, is_cancelled: bool = False) -> tuple[Scope, list[Message]]:
    """One life of a server: startup, and shutdown or cancellation."""
    scope: Scope = {"type": "lifespan", "state": {}}
    sent: list[Message] = []
    phases = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Message:
        phase = next(phases)
        if is_cancelled and phase == "lifespan.shutdown":
            raise asyncio.CancelledError
        return {"type": phase}

    async def send(message: Message) -> None:
        sent.append(message)

    life = PoolLife(echo, make_pool=lambda: pool, close_seconds=0.1)
    asyncio.run(life(scope, receive, send))
    return scope, sent


def test_the_pool_lives_as_long_as_the_server() -> None:
    pool = FakePool()
    scope, sent = live(pool)
    assert scope["state"]["pool"] is pool
    assert pool.events == ["start", "close"]
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_pool_that_does_not_start_stops_the_start_with_the_reason() -> None:
    scope, sent = live(FakePool(fails=True))
    assert scope["state"] == {}
    assert sent == [{"type": "lifespan.startup.failed", "message": "The engine pool cannot start: no room for sockets"}]


def test_a_pool_that_hangs_does_not_hold_up_the_stop() -> None:
    _, sent = live(FakePool(hangs=True))
    assert sent[-1] == {"type": "lifespan.shutdown.complete"}


def test_a_server_that_is_cancelled_closes_the_pool_too() -> None:
    pool = FakePool()
    with pytest.raises(asyncio.CancelledError):
        live(pool, is_cancelled=True)
    assert pool.events == ["start", "close"]


def test_requests_reach_the_pool_through_their_state() -> None:
    pool, seen = FakePool(), list[Any]()

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["state"]["pool"])
        await echo(scope, receive, send)

    with running(PoolLife(look, make_pool=lambda: pool)) as port:
        talk(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert seen == [pool]
    assert pool.events == ["start", "close"]
