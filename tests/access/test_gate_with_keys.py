"""The real gate before the real Django, with real keys and sessions, as a second host meets them."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx2
import pytest
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.db import OperationalError
from django.utils import timezone

from access import keyring, services
from access.doorman import Doorman
from access.models import ApiKey
from homelab.gate import Gate, House

pytestmark = pytest.mark.django_db(transaction=True)
LAN = ("10.77.0.2", 50000)


@asynccontextmanager
async def visiting(*, client: tuple[str, int] = LAN, gate: Gate | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(gate or make_gate(), client=client)
    async with httpx2.AsyncClient(transport=transport, base_url="http://10.77.0.1:8000") as visitor:
        yield visitor


def make_gate() -> Gate:
    return Gate(get_asgi_application(), port=8000, doorman=Doorman(), house=House())


make_key = sync_to_async(services.make_key)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def test_an_admin_key_opens_the_api_and_acts_as_the_owner():
    _, text = await make_key(name="laptop", scope="admin")
    async with visiting() as visitor:
        assert (await visitor.get("/api/cache/stats")).status_code == 401
        assert (await visitor.get("/api/cache/stats", headers=bearer(text))).status_code == 200
        assert (await visitor.get("/v1/nothing", headers=bearer(text))).status_code == 404
        refused = await visitor.post("/api/models", headers=bearer(text), json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "required")
        page = await visitor.get("/settings", headers=bearer(text))
        assert (page.status_code, page.json()["error"]["code"]) == (403, "insufficient_scope")


async def test_an_inference_key_opens_v1_alone():
    _, text = await make_key(name="chat", scope="inference")
    async with visiting() as visitor:
        assert (await visitor.get("/v1/nothing", headers=bearer(text))).status_code == 404
        assert (await visitor.get("/api/models", headers=bearer(text))).status_code == 403


async def test_wrong_revoked_and_expired_keys_get_the_same_answer():
    revoked, first = await make_key(name="a", scope="admin")
    await sync_to_async(services.revoke)(revoked)
    _, second = await make_key(name="b", scope="admin", expires_at=timezone.now() + timedelta(days=1))
    await ApiKey.objects.filter(name="b").aupdate(expiry_date=timezone.now())
    async with visiting() as visitor:
        answers = [await visitor.get("/v1/models", headers=bearer(text)) for text in (first, second, "x", "y" * 5000)]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["error"]["code"] == "invalid_api_key"


async def test_a_key_that_is_revoked_here_opens_nothing_at_once():
    key, text = await make_key(name="a", scope="admin")
    async with visiting() as visitor:
        assert (await visitor.get("/v1/nothing", headers=bearer(text))).status_code == 404
        await sync_to_async(services.revoke)(key)
        assert (await visitor.get("/v1/nothing", headers=bearer(text))).status_code == 401


async def test_a_key_that_another_process_revokes_opens_nothing_after_seconds(monkeypatch):
    monkeypatch.setattr(keyring, "LIFE_SECONDS", 0.2)
    _, text = await make_key(name="a", scope="admin")
    async with visiting() as visitor:
        assert (await visitor.get("/v1/nothing", headers=bearer(text))).status_code == 404
        await ApiKey.objects.aupdate(revoked=True)  # no signal: nobody tells this process
        async with asyncio.timeout(5):
            while (await visitor.get("/v1/nothing", headers=bearer(text))).status_code == 404:
                await asyncio.sleep(0.05)


async def test_a_key_that_expires_while_it_is_known_opens_nothing_any_more(monkeypatch):
    monkeypatch.setattr(keyring, "LIFE_SECONDS", 3600)
    _, text = await make_key(name="a", scope="admin", expires_at=timezone.now() + timedelta(seconds=0.5))
    doorman = Doorman()
    assert await doorman.find_key(text)
    async with asyncio.timeout(5):
        while await doorman.find_key(text):
            await asyncio.sleep(0.05)


async def test_keys_right_or_wrong_cost_one_query_in_two_seconds(monkeypatch):
    _, text = await make_key(name="a", scope="admin")
    reads = []
    read = keyring._read_usable
    monkeypatch.setattr(keyring, "_read_usable", lambda: reads.append(1) or read())
    doorman = Doorman()
    began = time.monotonic()
    found = await asyncio.gather(*(doorman.find_key(each) for each in [text, "wrong", text[:9] + "x" * 32] * 50))
    assert len([key for key in found if key]) == 50
    assert time.monotonic() - began < keyring.LIFE_SECONDS
    assert len(reads) == 1


async def test_the_last_use_is_written_once_a_minute_and_nobody_waits(monkeypatch):
    key, text = await make_key(name="a", scope="admin")
    doorman = Doorman()
    for _ in range(5):
        await doorman.find_key(text)
    [note] = doorman.keyring._notes
    await note
    used_at = (await ApiKey.objects.aget(pk=key.pk)).last_used_at
    assert timezone.now() - used_at < timedelta(minutes=1)
    await doorman.find_key(text)
    assert not doorman.keyring._notes


async def test_where_the_database_is_away_nobody_comes_in_and_is_told_when_to_try_again(monkeypatch):
    def fail() -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(keyring, "_read_usable", fail)
    async with visiting() as visitor:
        answer = await visitor.get("/v1/models", headers=bearer("any"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["error"]["code"] == "keys_unavailable"


# Sessions


async def sign_in(visitor: httpx2.AsyncClient, **form: str) -> httpx2.Response:
    page = await visitor.get("/login")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    origin = {"Origin": "http://10.77.0.1:8000"}
    return await visitor.post("/login", data=form | {"csrfmiddlewaretoken": token[1]}, headers=origin)


async def test_who_signs_in_with_a_key_comes_in_as_long_as_the_key_lives():
    key, text = await make_key(name="phone", scope="admin")
    async with visiting() as visitor:
        assert (
            (await visitor.get("/settings", headers={"Accept": "text/html"})).headers["Location"].startswith("/login?")
        )
        assert (await sign_in(visitor, key=text)).status_code == 302
        assert (await visitor.get("/settings")).status_code == 200
        assert (await visitor.get("/api/cache/stats")).status_code == 200
        await sync_to_async(services.revoke)(key)
        assert (await visitor.get("/settings")).status_code == 401
        assert (await visitor.get("/api/cache/stats")).status_code == 401
        assert (await visitor.get("/login")).status_code == 200  # and not back to where nobody lets it in


async def test_a_signed_in_browser_needs_the_token_for_what_changes_something():
    _, text = await make_key(name="phone", scope="admin")
    async with visiting() as visitor:
        await sign_in(visitor, key=text)
        refused = await visitor.post("/api/cache/refresh")
        assert refused.status_code == 403
        assert (await visitor.post("/settings")).status_code == 403
        origin = {"Origin": "http://10.77.0.1:9000"}
        answer = await visitor.get("/api/cache/stats", headers=origin)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin")


async def test_signing_out_ends_it():
    _, text = await make_key(name="phone", scope="admin")
    async with visiting() as visitor:
        await sign_in(visitor, key=text)
        form = {"csrfmiddlewaretoken": visitor.cookies["csrftoken"]}
        assert (await visitor.post("/logout", data=form)).status_code == 302
        assert (await visitor.get("/settings")).status_code == 401


@pytest.mark.parametrize("cookie", ["sessionid=stolen", "sessionid=", "sessionid=x; sessionid=y", "a=b"])
async def test_a_cookie_of_nobody_is_no_way_in(cookie: str):
    async with visiting() as visitor:
        assert (await visitor.get("/settings", headers={"Cookie": cookie})).status_code == 401


async def test_the_login_page_loads_nothing_that_is_not_open_to_all():
    async with visiting() as visitor:
        page = await visitor.get("/login")
        links = re.findall(r'(?:href|src)="(/[^"]+)"', page.text)
        answers = [await visitor.get(link) for link in links]
    assert len(links) == 2
    assert [answer.status_code for answer in answers] == [200, 200]
    nothing = {"default-src", "script-src", "connect-src", "object-src", "base-uri", "frame-ancestors"}
    own = {"style-src", "img-src", "form-action"}
    policy = set(page.headers["Content-Security-Policy"].split("; "))
    assert policy == {f"{name} 'none'" for name in nothing} | {f"{name} 'self'" for name in own}
