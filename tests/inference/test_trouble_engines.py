"""Engines in trouble, each time for real: killed, stopped, out of memory, failing at load. Others never notice."""

import asyncio
import json
import os
import resource
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from inference.errors import EngineHung, InsufficientMemory, ModelCrashed
from inference.pool import EnginePool
from inference.watchdog import Patience
from tests.inference.conftest import make_ready, put_in_cache
from tests.inference.gateway import Gateway, serving
from tests.inference.pooling import LOAD_SECONDS, repo, until
from tests.inference.stuck import bury, let_go, stop_busiest_thread

pytestmark = pytest.mark.django_db(transaction=True)
HELLO = [{"role": "user", "content": "Hello"}]
ASKED: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 4, "temperature": 0}
ENDLESS = ASKED | {"model": "endless", "max_tokens": 480, "stream": True}
SILENT_SECONDS = 5.0


@pytest.fixture
async def gateway(tiny, caches, endless_folder: Path) -> AsyncIterator[Gateway]:
    put_in_cache(endless_folder, caches.primary.path, repo_id="demo/endless")
    await sync_to_async(make_ready)("endless", hf_path="demo/endless")
    patience = Patience(silent_seconds=SILENT_SECONDS, silent_load_seconds=SILENT_SECONDS, look_seconds=0.2)
    async with serving(EnginePool(keep_alive_seconds=-1, max_requests=8, patience=patience)) as running:
        yield running


async def last_event_after(client) -> dict:
    """Reads on to the error event."""
    while True:
        event = (await client.events(1))[0]
        assert event != "[DONE]"
        if "error" in json.loads(event):
            break
    rest = await asyncio.wait_for(client.reader.readuntil(b"0\r\n\r\n"), 5)
    assert b"data:" not in rest
    return json.loads(event)["error"]


async def described(gateway: Gateway, name: str) -> dict:
    async with gateway.http() as http:
        return (await http.get(f"/api/models/{name}")).json()


async def wait_until_gone(gateway: Gateway, name: str) -> None:
    await until(lambda: gateway.pool.state_of(name) in {"unloaded", "failed"} and not gateway.pool.residents.leaving)


async def test_a_killed_engine_ends_its_streams_with_an_error_and_the_next_request_loads_again(gateway) -> None:
    pool = gateway.pool
    await asyncio.gather(pool.load("endless"), pool.load("tiny"))
    victim, other = pool.residents.slots["endless"].engine, pool.residents.slots["tiny"].engine
    async with gateway.posted(ENDLESS) as streaming, gateway.posted(ENDLESS | {"stream": False}) as waiting:
        await streaming.events(3)
        os.kill(victim.pid, signal.SIGKILL)
        killed = timezone.now()
        error = await last_event_after(streaming)
        status, headers = await waiting.head()
    assert (error["code"], error["type"]) == ("engine_died", "server_error") and "SIGKILL" in error["message"]
    assert status == 500 and headers["x-should-retry"] == "true" and headers["retry-after"] == "1"
    async with gateway.openai() as client:
        assert (await client.chat.completions.create(**ASKED)).usage.completion_tokens == 4
        assert other.is_alive and pool.residents.slots["tiny"].engine is other
        again = await client.chat.completions.create(**ASKED | {"model": "endless"})
    assert again.usage.completion_tokens == 4
    slot = pool.residents.slots["endless"]
    pause_seconds = (slot.asked_at - killed).total_seconds() + slot.stage_seconds["queued"]
    assert slot.engine.pid != victim.pid and pause_seconds > 0.9


@pytest.mark.parametrize("streams", [True, False])
async def test_an_engine_that_hangs_is_ended_and_its_clients_hear_why(gateway, streams) -> None:
    await gateway.pool.load("endless")
    engine = gateway.pool.residents.slots["endless"].engine
    async with gateway.posted(ENDLESS | {"stream": streams}) as client:
        await gateway.until_engine(seconds=10, name="endless", active=1)
        os.kill(engine.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        if streams:
            error = await last_event_after(client)
            assert error["code"] == "engine_hung"
        else:
            status, headers = await client.head()
            assert (status, headers["x-should-retry"]) == (504, "true")
    assert SILENT_SECONDS <= time.monotonic() - stopped < SILENT_SECONDS + 10
    await wait_until_gone(gateway, "endless")
    assert not psutil.pid_exists(engine.pid)
    assert "did not answer for 5 s" in (await described(gateway, "endless"))["engine"]["reason"]


async def test_an_engine_that_answers_but_makes_no_step_is_ended_too(tiny, caches, endless_folder) -> None:
    put_in_cache(endless_folder, caches.primary.path, repo_id="demo/endless")
    await sync_to_async(make_ready)("endless", hf_path="demo/endless")
    patience = Patience(stuck_seconds=SILENT_SECONDS, look_seconds=0.2)
    async with serving(EnginePool(keep_alive_seconds=-1, max_requests=8, patience=patience)) as gateway:
        await gateway.pool.load("endless")
        engine = gateway.pool.residents.slots["endless"].engine
        async with gateway.posted(ENDLESS) as client:
            await client.events(20)
            thread_id = await stop_its_model(gateway)
            error = await last_event_after(client)
        assert error["code"] == "engine_hung" and "made no step for 5 s" in error["message"]
        while psutil.pid_exists(engine.pid):
            bury(thread_id)
            await asyncio.sleep(0.1)


async def stop_its_model(gateway: Gateway) -> int:
    """Between two operations, so that the rest of the engine answers on."""
    engine = gateway.pool.residents.slots["endless"].engine
    for _ in range(20):
        thread_id = stop_busiest_thread(engine.pid)
        try:
            _, status = await engine.get("/status", limit_seconds=1)
        except TimeoutError:
            let_go(thread_id)
            await asyncio.sleep(0.013)
        else:
            assert status["active"] == 1
            return thread_id
    pytest.skip("Its model held Python's lock each time.")


async def test_an_engine_that_hangs_while_it_loads_is_ended_too(gateway) -> None:
    loading = asyncio.create_task(gateway.pool.load("tiny"))
    await until(lambda: (slot := gateway.pool.residents.slots.get("tiny")) and slot.engine)
    engine = gateway.pool.residents.slots["tiny"].engine
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(EngineHung, match="did not answer for 5 s while it loaded"):
        await loading
    assert not psutil.pid_exists(engine.pid)


async def test_three_crashes_are_enough_until_somebody_changes_something(gateway, caches) -> None:
    """Here the files are no model: each load fails, with the engine's own sentence."""
    config = repo(caches.primary) / "snapshots" / ("a" * 40) / "config.json"
    good = config.read_text()
    config.write_text(json.dumps(json.loads(good) | {"num_hidden_layers": 8}))
    async with gateway.openai() as client:
        for _ in range(3):
            with pytest.raises(openai.InternalServerError) as refused:
                await client.chat.completions.create(**ASKED)
            assert refused.value.code == "model_not_loadable" and "lacks" in refused.value.message
            assert refused.value.response.headers["x-should-retry"] == "false"
        await assert_failed(gateway, client)
        other = await client.chat.completions.create(**ASKED | {"model": "endless"})
        assert other.usage.completion_tokens == 4
        config.write_text(good)
        async with gateway.http() as http:  # another setting is a new chance
            assert (await http.patch("/api/models/tiny", json={"context_limit": 300})).status_code == 200
        assert (await client.chat.completions.create(**ASKED)).usage.completion_tokens == 4
    assert (await described(gateway, "tiny"))["status"] == "ready"
    await gateway.pool.unload("tiny", by_force=True)
    assert (await described(gateway, "tiny"))["engine"]["status"] == "unloaded"


async def described_as(gateway: Gateway, name: str, *, status: str) -> dict[str, Any]:
    """Once it is: the row is written a moment after the engine's end is known."""
    async with asyncio.timeout(5):
        while (model := await described(gateway, name))["status"] != status:
            await asyncio.sleep(0.02)
    return model


async def assert_failed(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    """`tiny` is refused at once, and everybody who asks is told why, and how it comes back."""
    started = time.monotonic()
    with pytest.raises(openai.InternalServerError) as refused:
        await client.chat.completions.create(**ASKED)
    assert time.monotonic() - started < 2 and not gateway.pool.residents.slots
    assert refused.value.status_code == 503 and refused.value.code == "model_failed"
    assert refused.value.response.headers["x-should-retry"] == "false"
    model = await described_as(gateway, "tiny", status="failed")
    assert model["engine"]["status"] == "failed"
    assert "lacks" in model["error"] and "POST /api/models/tiny/load" in model["error"]
    assert (await client.models.retrieve("tiny")).status == {"value": "unloaded", "failed": True}


async def test_a_load_by_hand_gives_a_failed_model_a_new_chance(gateway) -> None:
    pool = gateway.pool
    for _ in range(3):
        async with pool.use("tiny") as engine:
            os.kill(engine.pid, signal.SIGKILL)
        await wait_until_gone(gateway, "tiny")
    assert pool.state_of("tiny") == "failed"
    with pytest.raises(ModelCrashed, match="SIGKILL"):
        await pool.find("tiny")
    async with gateway.http() as http:
        answer = await http.post("/api/models/tiny/load")
    assert (answer.status_code, answer.json()["status"]) == (200, "loaded")
    assert (await described(gateway, "tiny"))["status"] == "ready"


# Models that mean harm


async def test_a_chat_template_that_never_ends_costs_its_own_request_alone(
    gateway, caches, tiny_folder, tmp_path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "poison"))
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(loop)
    put_in_cache(folder, caches.primary.path, repo_id="demo/poison")
    await sync_to_async(make_ready)("poison", hf_path="demo/poison")
    await asyncio.gather(gateway.pool.load("poison"), gateway.pool.load("tiny"))
    async with gateway.openai() as client:
        poisoned = asyncio.create_task(client.chat.completions.create(**ASKED | {"model": "poison"}))
        await asyncio.sleep(0.5)
        assert (await client.chat.completions.create(**ASKED)).usage.completion_tokens == 4
        with pytest.raises(openai.BadRequestError) as refused:
            await poisoned
        assert refused.value.code == "chat_template_error"
        assert refused.value.response.headers["x-should-retry"] == "false"
        plain = await client.completions.create(model="poison", prompt="Once", max_tokens=3)
    assert plain.usage.completion_tokens == 3


# Memory


async def test_an_engine_that_gets_no_memory_says_how_much_it_was_given(gateway) -> None:
    loading = asyncio.create_task(gateway.pool.load("tiny"))
    await until(lambda: (slot := gateway.pool.residents.slots.get("tiny")) and slot.engine)
    engine = gateway.pool.residents.slots["tiny"].engine
    await until(lambda: engine.facts.get("stage") == "reading", seconds=LOAD_SECONDS)  # its libraries are there
    limit = psutil.Process(engine.pid).memory_info().vms
    resource.prlimit(engine.pid, resource.RLIMIT_AS, (limit, limit))
    with pytest.raises(InsufficientMemory, match=r"given \d+ MB, of .* that were free") as refused:
        await loading
    assert refused.value.details["needed_bytes"] > 0 and refused.value.details["free_bytes"] > 0


@pytest.fixture
def small_cgroup(request):
    """A memory cgroup of 150 MB, in the hierarchy that this machine has."""
    for base, limit in (("memory/", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup") / base / f"homelab-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(150 * 10**6))
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        yield group
        for _ in range(100):
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.05)
            else:
                break
        return
    pytest.skip("This machine lets nobody make a memory cgroup.")


async def test_an_engine_that_the_kernel_kills_for_memory_is_told_as_that(gateway, small_cgroup) -> None:
    loading = asyncio.create_task(gateway.pool.load("tiny"))
    await until(lambda: (slot := gateway.pool.residents.slots.get("tiny")) and slot.engine)
    (small_cgroup / "cgroup.procs").write_text(str(gateway.pool.residents.slots["tiny"].engine.pid))
    with pytest.raises(InsufficientMemory, match="memory did not suffice for tiny"):
        await loading
