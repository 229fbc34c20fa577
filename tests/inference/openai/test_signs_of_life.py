"""What a client sees while nothing comes, and what becomes of one that does not read."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from asgiref.sync import sync_to_async

from inference.models import UsageRecord
from inference.openai import caller, relay
from inference.pool import EnginePool
from tests.inference.conftest import BUSY_SECONDS
from tests.inference.fake_engine import DONE, ROLE, TOKEN, event, standing_in
from tests.inference.gateway import Gateway, serving

pytestmark = pytest.mark.django_db(transaction=True)
ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": True}


@pytest.fixture
async def quick_gateway(tiny) -> AsyncIterator[Gateway]:
    """Its `tiny` is whatever a test lets stand in for it."""
    async with serving(EnginePool(keep_alive_seconds=-1, max_requests=8)) as running:
        yield running


async def test_comments_come_until_the_first_token_and_then_only_events(quick_gateway, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(relay, "PING_SECONDS", 0.2)

    async def talk() -> AsyncIterator[bytes]:
        yield event(ROLE)
        await asyncio.sleep(1.1)
        yield event(TOKEN)
        await asyncio.sleep(1)
        yield event(TOKEN)
        yield DONE

    async with standing_in(quick_gateway.pool, talk, tmp_path), quick_gateway.posted(ASKED) as client:
        lines = [await client.line()]
        while lines[-1] != "data: [DONE]":
            lines.append(await client.line())
    comments = [line for line in lines if line.startswith(":")]
    assert set(comments) == {": waiting for the first token"} and len(comments) >= 3
    assert [line[:5] for line in lines if not line.startswith(":")] == ["data:"] * 4
    assert not any(line.startswith(":") for line in lines[-3:])


async def test_a_client_that_reads_a_byte_a_second_is_cut_off_and_its_slot_is_free(
    quick_gateway, monkeypatch, tmp_path
) -> None:
    """The engine would go on for ever: what waits for the client is bound."""
    monkeypatch.setattr(caller, "WRITE_SECONDS", 1.0)

    async def talk() -> AsyncIterator[bytes]:
        while True:
            yield event(TOKEN) * 100

    pool = quick_gateway.pool
    async with standing_in(pool, talk, tmp_path) as engine:
        async with quick_gateway.posted(ASKED) as client:
            slow = client.writer.get_extra_info("socket")
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.writer.transport.pause_reading()
            async with asyncio.timeout(20):
                while not engine.active:
                    await asyncio.sleep(0.02)
                while engine.active or pool.turnstile.inside:
                    await asyncio.sleep(0.02)
            assert pool.residents.slots["tiny"].in_flight == 0
            assert engine.sent_bytes < 20 * 10**6  # what the system's own buffers take, and two of ours
        assert pool.turnstile.inside == 0


async def test_a_client_that_pauses_for_a_moment_gets_all(quick_gateway, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(caller, "WRITE_SECONDS", 2.0 + BUSY_SECONDS)

    async def talk() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield event(TOKEN) * 1000
        yield DONE

    async with standing_in(quick_gateway.pool, talk, tmp_path), quick_gateway.posted(ASKED) as client:
        await client.head()
        client.writer.transport.pause_reading()
        await asyncio.sleep(1)
        client.writer.transport.resume_reading()
        count = 0
        while line := await client.reader.readline():
            count += line.startswith(b"data: {")
            if line == b"data: [DONE]\n":
                break
    assert count == 400_000


async def test_who_hangs_up_after_the_last_event_has_had_all_of_its_answer(quick_gateway, tmp_path) -> None:
    async def talk() -> AsyncIterator[bytes]:
        yield event(ROLE)
        yield event(TOKEN) + DONE
        await asyncio.sleep(60)

    async with standing_in(quick_gateway.pool, talk, tmp_path) as engine:
        async with quick_gateway.posted(ASKED) as client:
            while await client.line() != "data: [DONE]":
                continue
        async with asyncio.timeout(1 + BUSY_SECONDS):
            while engine.active:
                await asyncio.sleep(0.02)
    await asyncio.to_thread(quick_gateway.pool.records.flush)
    record = await sync_to_async(UsageRecord.objects.get)()
    assert (record.status, record.completion_tokens) == ("ok", 1)
