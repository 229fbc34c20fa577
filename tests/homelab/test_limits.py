"""Limits: requests in a minute of one key or address, and streams of all together."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from homelab import limits
from homelab.asgi import EVENT_STREAMS
from homelab.limits import Bucket, Limits, Meter, client_of, take

STREAMS = frozenset({"/api/jobs/events"})
PHONE = SimpleNamespace(name="phone", prefix="abcdefgh")


# The decision


def test_a_minutes_requests_may_come_at_once_and_then_at_the_rate() -> None:
    bucket = Bucket(left=60, at=0)
    for _ in range(60):
        bucket, wait_seconds = take(bucket, now=0, per_minute=60)
        assert wait_seconds == 0
    assert take(bucket, now=0, per_minute=60)[1] == 1
    assert take(bucket, now=0.25, per_minute=60)[1] == 0.75
    assert take(bucket, now=1, per_minute=60)[1] == 0


@given(st.integers(1, 10_000), st.lists(st.floats(0, 30), max_size=200))
def test_nobody_gets_more_than_a_minutes_worth_and_the_rate(per_minute: int, pauses: list[float]) -> None:
    bucket, now, passed = Bucket(left=per_minute, at=0), 0.0, 0
    for pause in pauses:
        now += pause
        bucket, wait_seconds = take(bucket, now=now, per_minute=per_minute)
        passed += wait_seconds == 0
    assert passed <= per_minute + now * per_minute / 60 + 1e-6


def test_who_waits_as_long_as_was_said_may_pass() -> None:
    empty, wait_seconds = take(Bucket(left=0, at=0), now=0, per_minute=7)
    assert take(empty, now=wait_seconds + 1e-9, per_minute=7)[1] == 0


def test_very_many_clients_take_no_more_memory_than_many() -> None:
    meter = Meter(per_minute=1, most_clients=100)
    for number in range(1000):
        assert meter.wait_of(f"10.0.{number // 250}.{number % 250}", now=0) == 0
    assert len(meter) == 100
    assert meter.wait_of("10.0.3.249", now=0) > 0


@pytest.mark.parametrize(
    ("scope", "client"),
    [
        ({"client": ("10.0.0.7", 5)}, "10.0.0.7"),
        ({"client": ("2001:db8:1:2:3:4:5:6", 5)}, "2001:db8:1:2::"),
        ({"client": ("fe80::1%eth0", 5)}, "fe80::"),
        ({"client": None}, ""),
        ({"client": ("10.0.0.7", 5), "homelab.key": PHONE}, "key abcdefgh"),
    ],
)
def test_a_client_is_its_key_or_its_address(scope: dict[str, Any], client: str) -> None:
    assert client_of(scope) == client


# The door


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] in STREAMS:
        await scope["may_end"].wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def limited(**changes: Any) -> Limits:
    options = {
        "per_minute": 2,
        "max_streams": 1,
        "streams": STREAMS,
        "is_owner": lambda scope: scope.get("owner", False),
    }
    return Limits(app, **(options | changes))


async def ask(door: Limits, path: str = "/api/models", **more: Any) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": ("10.0.0.7", 1)} | more
    await door(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(each.get("body", b"") for each in sent[1:])


@pytest.mark.parametrize(("path", "kind"), [("/api/models", b'"details"'), ("/v1/models", b'"rate_limit_error"')])
async def test_one_too_many_in_a_minute_is_told_when_to_come_back(path: str, kind: bytes) -> None:
    door = limited()
    assert [(await ask(door, path))[0] for _ in range(2)] == [200, 200]
    status, headers, body = await ask(door, path)
    assert status == 429 and 25 <= int(headers["retry-after"]) <= 30
    assert kind in body and b'"too_many_requests"' in body
    assert (await ask(door, path, client=("10.0.0.8", 1)))[0] == 200
    assert (await ask(door, path, **{"homelab.key": PHONE}))[0] == 200


async def test_the_owners_requests_are_not_counted() -> None:
    door = limited()
    assert {(await ask(door, owner=True))[0] for _ in range(50)} == {200}


async def test_streams_are_counted_while_they_are_open() -> None:
    door, may_end = limited(), asyncio.Event()
    stream = {"path": "/api/jobs/events", "may_end": may_end, "owner": True}
    first = asyncio.create_task(ask(door, **stream))
    await asyncio.sleep(0)
    status, headers, body = await ask(door, **stream)
    assert (status, headers["retry-after"]) == (503, "5") and b'"too_many_streams"' in body
    assert (await ask(door, owner=True))[0] == 200
    may_end.set()
    assert (await first)[0] == 200
    assert (await ask(door, **stream))[0] == 200


async def test_a_stream_that_nobody_reads_ends(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr(limits, "WRITE_SECONDS", 0.05)
    door, may_end = limited(), asyncio.Event()
    may_end.set()

    async def never(message: Any = None) -> Any:
        await asyncio.Event().wait()

    scope: dict[str, Any] = {
        "type": "http",
        "path": "/api/jobs/events",
        "headers": [],
        "client": None,
        "may_end": may_end,
        "owner": True,
    }
    await door(scope, never, never)
    assert door.open_streams == 0 and "reads nothing" in caplog.text


def test_every_stream_of_the_api_is_counted() -> None:
    document = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text(encoding="utf-8"))
    streams = {
        path
        for path, operations in document["paths"].items()
        if path.startswith("/api/") and "text/event-stream" in str(operations)
    }
    assert streams == EVENT_STREAMS
