"""Who called: bodies that are too large or too slow, and the place in the house that is free afterwards."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from homelab import bodies
from inference.openai import door
from inference.openai.door import Door
from inference.turnstile import Turnstile

MAX_BODY_BYTES = bodies.OTHER_BYTES["/v1/chat/completions"]
CHAT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()


class House:
    """A pool as far as the door is concerned. Who is in it stays until `may_leave`, and is counted when it goes."""

    def __init__(self, limit: int) -> None:
        self.turnstile = Turnstile(limit)
        self.may_leave = asyncio.Event()
        self.inside = 0
        self.closed: set[Visit] = set()


class Visit:
    """Stands in for an exchange with an engine."""

    def __init__(self, pool: House, generation: Any, *, path: str) -> None:
        self.pool = pool
        self.generation = generation

    async def read_body(self) -> tuple[int, bytes]:
        self.pool.inside += 1
        await self.pool.may_leave.wait()
        return 200, b"{}"

    async def close(self) -> None:
        self.pool.closed.add(self)


@pytest.fixture(autouse=True)
def visits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "Exchange", Visit)


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]


async def other_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def knock(
    house: House,
    *parts: bytes,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: dict[str, str] | None = None,
    leaves: asyncio.Event | None = None,
    is_cut: bool = False,
) -> Got | None:
    """The answer; None when there is none. The body comes in the parts; after the last, the client leaves when told.
    `is_cut`: there was to come more of it."""
    sent, left = [], list(parts or [CHAT])
    told = {"content-type": "application/json"} | (headers or {})
    pairs = [(name.encode(), value.encode()) for name, value in told.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": pairs, "state": {"pool": house}}

    async def receive() -> dict[str, Any]:
        if not left:
            await (leaves or asyncio.Event()).wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": is_cut or bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    await Door(other_app)(scope | {"homelab.local": True}, receive, send)
    if not sent:
        return None
    named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Got(sent[0]["status"], named, b"".join(each["body"] for each in sent[1:]))


async def test_as_many_as_fit_are_let_in_and_others_are_told_when_to_come_back() -> None:
    house = House(limit=2)
    inside = [asyncio.create_task(knock(house)) for _ in range(2)]
    while house.inside < 2:
        await asyncio.sleep(0)
    refused = await knock(house)
    assert (refused.status, refused.error["code"], refused.error["type"]) == (503, "overloaded", "server_error")
    assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("5", "true")
    house.may_leave.set()
    assert [got.status for got in await asyncio.gather(*inside)] == [200, 200]
    assert len(house.closed) == 2 and house.turnstile.inside == 0
    assert (await knock(house)).status == 200


async def test_who_leaves_leaves_nothing_behind() -> None:
    house, leaves = House(limit=2), asyncio.Event()
    asking = asyncio.create_task(knock(house, leaves=leaves))
    while not house.inside:
        await asyncio.sleep(0)
    leaves.set()
    assert await asking is None
    assert len(house.closed) == 1 and house.turnstile.inside == 0


async def test_who_leaves_in_the_middle_of_its_body_leaves_nothing_behind_either() -> None:
    house, leaves = House(limit=2), asyncio.Event()
    leaves.set()
    assert await knock(house, CHAT[:5], leaves=leaves, is_cut=True) is None
    assert house.turnstile.inside == house.inside == 0


@pytest.mark.parametrize("length", [None, MAX_BODY_BYTES + 1])
async def test_a_body_that_is_too_large_is_refused_and_read_to_its_end(length: int | None) -> None:
    house = House(limit=2)
    parts = [b"x" * 10**6] * (MAX_BODY_BYTES // 10**6 + 2)
    got = await knock(house, *parts, headers={"content-length": str(length)} if length else None)
    assert (got.status, got.error["code"], got.headers["x-should-retry"]) == (413, "body_too_large", "false")
    assert str(MAX_BODY_BYTES) in got.error["message"]
    assert house.turnstile.inside == house.inside == 0


async def test_a_body_that_does_not_come_holds_no_place_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(bodies, "_DRAIN_SECONDS", 0.1)
    house, sent = House(limit=2), []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.04)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"method": "POST", "path": "/v1/completions", "headers": headers, "state": {"pool": house}}
    await Door(other_app)(scope | {"homelab.local": True}, receive, send)
    assert sent[0]["status"] == 408 and house.turnstile.inside == 0


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"method": "GET"}, 405, "method_not_allowed"),
        ({"headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ({"headers": {"content-type": "application/json; charset=utf-8"}}, 200, None),
    ],
)
async def test_what_is_no_request_is_told_what_one_is(request_, status, code) -> None:
    house = House(limit=2)
    house.may_leave.set()
    got = await knock(house, **request_)
    assert got.status == status and (code is None or got.error["code"] == code)


async def test_other_paths_go_on_to_django() -> None:
    assert (await knock(House(limit=0), path="/v1/models")).status == 299


async def test_an_accident_is_said_in_the_shape_that_clients_read(monkeypatch, caplog) -> None:
    async def break_down(self) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(Visit, "read_body", break_down)
    got = await knock(House(limit=1))
    assert got.status == 500 and got.error["type"] == "server_error" and "secret" not in got.error["message"]
    assert "ZeroDivisionError" in caplog.text
