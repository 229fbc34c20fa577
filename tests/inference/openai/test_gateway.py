"""The gateway with the `openai` client, and what the client cannot show, byte by byte."""

import asyncio
import time
from typing import Any

import openai
import pytest
from asgiref.sync import sync_to_async

from inference.models import UsageRecord
from registry.models import ModelRegistry
from tests.inference.conftest import BUSY_SECONDS
from tests.inference.gateway import Gateway

pytestmark = pytest.mark.django_db(transaction=True)
HELLO = [{"role": "user", "content": "Hello"}]
ASKED: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 6, "temperature": 0}


async def records_of(gateway: Gateway) -> list[UsageRecord]:
    await asyncio.to_thread(gateway.pool.records.flush)
    return await sync_to_async(lambda: list(UsageRecord.objects.order_by("pk")))()


async def test_a_cold_model_answers_all_four_ways_and_each_is_written_down(gateway) -> None:
    async with gateway.openai() as client:
        chunks = [chunk async for chunk in await client.chat.completions.create(**ASKED, stream=True)]
        whole = await client.chat.completions.create(**ASKED)
    with_usage: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        counted = await asyncio.to_thread(lambda: list(client.chat.completions.create(**ASKED, **with_usage)))
        plain = await asyncio.to_thread(lambda: client.completions.create(model="tiny", prompt="Once", max_tokens=4))
    assert all("usage" not in chunk.model_fields_set and chunk.choices for chunk in chunks)
    assert counted[-1].choices == [] and counted[-1].usage.completion_tokens == whole.usage.completion_tokens
    texts = [
        "".join(chunk.choices[0].delta.content or "" for chunk in some if chunk.choices) for some in (chunks, counted)
    ]
    assert texts == [whole.choices[0].message.content] * 2 and plain.object == "text_completion"
    load, *requests = await records_of(gateway)
    assert (load.kind, load.status, load.was_cold, load.load_seconds > 0) == ("load", "ok", True, True)
    assert {"queued", "reading"} <= set(load.stage_seconds)
    assert [(each.status, each.is_streamed, each.was_cold) for each in requests] == [
        ("ok", True, True),
        ("ok", False, False),
        ("ok", True, False),
        ("ok", False, False),
    ]
    streamed, once = requests[0], requests[1]
    assert streamed.completion_tokens == once.completion_tokens == whole.usage.completion_tokens
    assert streamed.first_token_seconds >= streamed.load_seconds > 0 and streamed.tokens_per_second > 0
    assert {each.cache_location for each in (load, *requests)} == {"primary"}
    model = await sync_to_async(ModelRegistry.objects.get)(model_name="tiny")
    assert model.use_count == 4 and model.last_used_at is not None


async def test_a_cold_stream_looks_alive_at_once_and_tells_its_stage(gateway) -> None:
    started = time.monotonic()
    async with gateway.posted(ASKED | {"stream": True}) as client:
        status, headers = await client.head()
        assert time.monotonic() - started < 3 and status == 200
        assert headers["content-type"] == "text/event-stream" and headers["x-accel-buffering"] == "no"
        assert (await client.line()).startswith(": loading ")
        async with gateway.http() as http:
            described = (await http.get("/api/models/tiny")).json()["engine"]
            listed = (await http.get("/v1/models/tiny")).json()
        assert described["status"] == "loading" and described["stage"] in {"queued", "reading", "warming"}
        assert listed["status"] == {"value": "loading"}
        assert "content" in (await client.events(2))[1]


async def test_the_load_goes_on_when_its_client_leaves_and_nothing_is_generated(gateway) -> None:
    async with gateway.posted(ASKED | {"stream": True}) as client:
        await client.head()
    async with asyncio.timeout(60):
        while gateway.pool.state_of("tiny") != "loaded":
            await asyncio.sleep(0.05)
    await gateway.until_engine(seconds=1 + BUSY_SECONDS, active=0, queued=0)
    assert gateway.pool.residents.slots["tiny"].in_flight == 0 and gateway.pool.turnstile.inside == 0
    assert [(each.kind, each.status) for each in await records_of(gateway)] == [("request", "left"), ("load", "ok")]


@pytest.mark.parametrize("streams", [True, False])
async def test_who_leaves_stops_the_generation_within_a_second(gateway, streams) -> None:
    endless = ASKED | {"model": "endless", "max_tokens": 480, "stream": streams}
    await gateway.pool.load("endless")
    async with gateway.posted(endless) as client:
        await gateway.until_engine(seconds=10, name="endless", active=1)
        if streams:
            await client.events(3)
    await gateway.until_engine(seconds=1 + BUSY_SECONDS, name="endless", active=0, queued=0)
    (_, record) = await records_of(gateway)
    assert (record.status, record.is_streamed) == ("left", streams)


async def test_who_leaves_while_it_is_queued_in_the_engine_never_starts(gateway) -> None:
    await sync_to_async(ModelRegistry.objects.update)(parallel_requests=1)
    endless = ASKED | {"model": "endless", "max_tokens": 480, "stream": True}
    await gateway.pool.load("endless")
    async with gateway.posted(endless) as first:
        await first.events(2)
        async with gateway.posted(endless) as second, gateway.posted(endless | {"stream": False}):
            await gateway.until_engine(seconds=10, name="endless", active=1, queued=2)
            await second.head()
        await gateway.until_engine(seconds=1 + BUSY_SECONDS, name="endless", active=1, queued=0)
        assert await first.events(1)


async def test_fifty_who_leave_harm_nobody(gateway) -> None:
    endless = ASKED | {"model": "endless", "max_tokens": 480}
    await gateway.pool.load("endless")

    async def ask_and_leave(number: int) -> None:
        async with gateway.posted(endless | {"stream": number % 2 == 0}) as client:
            await asyncio.sleep(0.02 * (number % 5))
            if number % 4 == 0:
                await client.head()

    for start in range(0, 50, 5):
        await asyncio.gather(*(ask_and_leave(number) for number in range(start, start + 5)))
    await gateway.until_engine(seconds=1 + BUSY_SECONDS, name="endless", active=0, queued=0)
    async with asyncio.timeout(5):
        while gateway.pool.turnstile.inside:
            await asyncio.sleep(0.02)
    slot = gateway.pool.residents.slots["endless"]
    assert slot.in_flight == 0
    async with gateway.openai() as client:
        answer = await client.chat.completions.create(**ASKED | {"model": "endless"})
    assert answer.usage.completion_tokens == 6


# Errors


async def refusal(gateway: Gateway, **body) -> openai.APIStatusError:
    async with gateway.openai() as client:
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(**ASKED | body)
    return refused.value


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"model": "nobody"}, 404, "model_not_found", None),
        ({"model": "later"}, 404, "model_not_downloaded", None),
        ({"model": "no\x00body"}, 404, "model_not_found", None),
        ({"temperature": 9}, 400, "invalid_value", "temperature"),
        ({"tools": [{"type": "function"}]}, 400, "unsupported", "tools"),
        ({"logit_bias": {"5": 1}}, 400, "unsupported", "logit_bias"),
        ({"stream": True, "model": "later"}, 404, "model_not_downloaded", None),
    ],
)
async def test_what_cannot_work_is_said_once_and_not_tried_again(gateway, body, status, code, param) -> None:
    await sync_to_async(ModelRegistry.objects.create)(model_name="later", hf_path="demo/later")
    error = await refusal(gateway, **body)
    assert (error.status_code, error.code, error.param) == (status, code, param)
    assert error.response.headers["x-should-retry"] == "false" and "retry-after" not in error.response.headers


async def test_a_body_of_nine_megabytes_is_refused_while_it_comes(gateway) -> None:
    error = await refusal(gateway, messages=[{"role": "user", "content": "word " * 1_800_000}])
    assert (error.status_code, error.code) == (413, "body_too_large")
    assert error.response.headers["x-should-retry"] == "false"
    async with gateway.http() as http:
        chunks = (b"x" * 100_000 for _ in range(90))

        async def body():
            for chunk in chunks:
                yield chunk

        answer = await http.post("/v1/completions", content=body(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_large"


async def test_five_megabytes_and_a_billion_tokens_are_bounded(gateway) -> None:
    error = await refusal(gateway, messages=[{"role": "user", "content": "word " * 1_000_000}])
    assert (error.status_code, error.code) == (400, "context_length_exceeded")
    async with gateway.openai() as client:
        answer = await client.chat.completions.create(**ASKED | {"model": "endless", "max_tokens": 10**9})
    assert answer.choices[0].finish_reason == "length" and answer.usage.total_tokens <= 512
