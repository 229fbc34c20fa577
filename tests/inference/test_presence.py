"""What is in memory, as it is told: at once, as a stream of changes, and in the words of llama.cpp's router."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx2
import pytest
from asgiref.sync import sync_to_async

from inference import ps_stream
from inference.load_acts import load_act
from inference.pool import EnginePool
from inference.ps_stream import PresenceWatch
from inference.services import describe_presence
from inference.slots import Slot
from inference.stages import STAGES, Stage, stage_of_health
from inference.views import PresenceSerializer
from tests.inference.conftest import make_ready, put_in_cache
from tests.inference.gateway import Gateway, serving
from tests.inference.pooling import LOAD_SECONDS, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def gateway(tiny, caches, endless_folder) -> AsyncIterator[Gateway]:
    put_in_cache(endless_folder, caches.primary.path, repo_id="demo/endless")
    async with serving(EnginePool(keep_alive_seconds=-1, max_requests=8)) as running:
        yield running


async def events_of(answer: httpx2.Response) -> AsyncIterator[tuple[str, object]]:
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_stage_is_said_with_its_bytes_and_its_place_in_line() -> None:
    assert str(Stage("reading", bytes_done=1_200_000_000, bytes_total=3 * 10**9)) == "reading 1.2 GB of 3.0 GB"
    assert str(Stage("queued", position=2)) == "queued, number 2 in line" and str(Stage("ready")) == "ready"
    assert stage_of_health({"status": "loading", "stage": "importing"}) == Stage("reading")
    assert stage_of_health({"stage": "reading", "bytes_done": 5, "bytes_total": 9}) == Stage("reading", 5, 9)
    assert stage_of_health({"stage": "warming", "bytes_done": "x"}) == Stage("warming")


def test_the_seconds_of_each_stage_are_kept() -> None:
    slot = Slot("m")
    slot.enter("reading", bytes_done=1, bytes_total=2)
    began = slot.stage_began_at
    slot.enter("reading", bytes_done=2, bytes_total=2)
    assert slot.stage_began_at == began and set(slot.stage_seconds) == {"queued"}
    slot.enter("warming")
    slot.enter("ready")
    assert set(slot.stage_seconds) == {*STAGES} - {"downloading", "ready"}


async def test_of_many_models_none_is_waited_for(gateway, tiny) -> None:
    request = SimpleNamespace(scope={"state": {"pool": gateway.pool}})
    for begin in (
        load_act(request, is_patient=False),
        load_act(request, is_patient=False),
    ):  # the second finds it there
        assert await sync_to_async(begin.do)(tiny) == "tiny is being loaded."
        assert not gateway.pool.residents.slots["tiny"].is_ready
    await until(lambda: gateway.pool.residents.slots["tiny"].is_ready, seconds=LOAD_SECONDS)


async def test_a_watch_tells_what_changed_and_who_left_and_nothing_twice(tiny) -> None:
    pool = EnginePool(keep_alive_seconds=-1, max_requests=8)
    watch = PresenceWatch(pool)
    assert watch.all() == [] and watch.changed() == []
    first, second = Slot("a"), Slot("b")
    pool.residents.add(first)
    pool.residents.add(second)
    assert [each["model"] for each in watch.changed()] == ["a", "b"]
    first.enter("reading", bytes_done=5, bytes_total=9)
    (changed,) = watch.changed()
    assert (changed["model"], changed["stage"], changed["bytes_done"]) == ("a", "reading", 5)
    assert watch.changed() == []
    pool.residents.forget(first)
    (gone,) = watch.changed()
    assert (gone["model"], gone["status"], gone["stage"], gone["since"]) == ("a", "unloaded", "", None)
    assert set(gone) == set(changed) == set(PresenceSerializer().fields)


async def test_an_engine_that_leaves_is_told_of_until_it_has_gone_and_never_as_the_last_word(tiny) -> None:
    pool = EnginePool(keep_alive_seconds=-1, max_requests=8)
    watch = PresenceWatch(pool)
    old = Slot("a", in_flight=1)
    old.enter("ready")
    pool.residents.add(old)
    watch.all()
    pool.residents.let_go(old)
    (leaving,) = watch.changed()
    assert (leaving["status"], leaving["requests"], leaving["unloads_at"]) == ("leaving", 1, None)
    assert describe_presence("a", pool=pool) == leaving and pool.state_of("a") == "unloaded"
    pool.residents.add(Slot("a"))
    assert [each["status"] for each in watch.changed()] == ["leaving", "loading"]
    old.in_flight = 0
    assert [each["status"] for each in watch.changed()] == ["leaving", "loading"]
    pool.residents.forget(old)
    assert [each["status"] for each in watch.changed()] == ["loading"] and watch.changed() == []


async def test_a_load_is_followed_from_its_beginning_to_its_end(gateway, monkeypatch) -> None:
    monkeypatch.setattr(ps_stream, "_QUIET_SECONDS", 0.2)
    async with gateway.http() as http, http.stream("GET", "/api/ps/events", timeout=60) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        events = events_of(answer)
        assert await anext(events) == ("ps", [])
        loading = asyncio.create_task(gateway.pool.load("tiny"))
        seen: list[dict] = []
        while not seen or seen[-1]["status"] != "loaded":
            name, presence = await anext(events)
            assert name == "model"
            seen.append(presence)
        await loading
        assert {each["stage"] for each in seen} >= {"reading", "ready"} and seen[-1]["memory_bytes"] > 0
        await gateway.pool.unload("tiny")
        last = (await anext(events))[1]["status"]
        assert last == "unloaded" or (last == "leaving" and (await anext(events))[1]["status"] == "unloaded")


async def test_models_are_loaded_and_unloaded_as_tools_for_llama_cpp_do_it(gateway) -> None:
    async with gateway.http() as http:

        async def status() -> dict:
            listed = (await http.get("/models")).json()["data"]
            return next(each["status"] for each in listed if each["id"] == "tiny")

        assert await status() == {"value": "unloaded"}
        loaded = await http.post("/models/load", json={"model": "tiny"})
        assert (loaded.status_code, loaded.json()) == (200, {"success": True})  # at once: the list tells the rest
        assert await status() == {"value": "loading"}
        await until(lambda: gateway.pool.state_of("tiny") == "loaded", seconds=LOAD_SECONDS)
        assert await status() == {"value": "loaded"}
        (listed,) = (await http.get("/api/ps")).json()
        assert listed["model"] == "tiny" and listed["unloads_at"] is None and listed["keep_alive_seconds"] == -1
        async with gateway.pool.use("tiny"):
            busy = await http.post("/models/unload", json={"model": "tiny"})
            assert (busy.status_code, busy.json()["error"]["code"]) == (409, "model_busy")
        unloaded = await http.post("/models/unload", json={"model": "tiny"})
        assert unloaded.json() == {"success": True} and await status() == {"value": "unloaded"}
        assert (await http.post("/models/load", json={"model": "nobody"})).status_code == 404
        assert (await http.post("/models/load", json={})).status_code == 400


async def test_force_unloads_a_model_that_is_busy(gateway) -> None:
    await sync_to_async(make_ready)("other")
    await sync_to_async(make_ready)("endless", hf_path="demo/endless")
    await gateway.pool.load("endless")
    chat = {"model": "endless", "messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 480}
    async with gateway.http() as http, gateway.posted(chat) as client:
        await client.events(2)
        assert (await http.post("/api/models/endless/unload")).json()["error"]["code"] == "model_busy"
        forced = await http.post("/api/models/endless/unload", json={"force": True})
        assert (forced.status_code, forced.json()["was_loaded"]) == (200, True)
        while '"error"' not in (last := (await client.events(1))[0]):
            assert last != "[DONE]"
        assert json.loads(last)["error"]["code"] == "model_unloaded"
        assert (await http.post("/api/models/other/unload?force=true")).json()["was_loaded"] is False
