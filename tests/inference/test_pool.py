"""The pool with real engines: who loads, who waits, who leaves, and what becomes of the dead."""

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
from asgiref.sync import sync_to_async

from cachemgr.errors import RepoBusy
from cachemgr.locks import exclusive
from inference.errors import EngineFailed, InsufficientMemory, ModelBusy, Overloaded
from inference.pool import EnginePool
from registry.errors import ModelNotDownloaded, UnknownModel
from registry.models import ModelRegistry

pytestmark = pytest.mark.django_db(transaction=True)
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, "temperature": 0}


async def chat(pool: EnginePool, name: str = "tiny") -> dict:
    async with pool.use(name) as engine:
        return (await engine.client.post("/v1/chat/completions", json=HELLO)).json()


def repo(cache) -> Path:
    return Path(cache.path) / "models--demo--tiny"


def is_removable(folder: Path) -> bool:
    try:
        exclusive(folder).release()
    except RepoBusy:
        return False
    return True


async def point_to(location: str) -> float:
    """Moves the row, as a move's commit does; answers when."""
    await sync_to_async(ModelRegistry.objects.update)(cache_location=location, cache_path=None)
    return time.monotonic()


async def until(condition, *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_a_model_is_loaded_from_its_own_cache_answers_and_is_unloaded(pool, tiny, caches) -> None:
    assert pool.state_of("tiny") == "unloaded"
    answer = await chat(pool)
    assert answer["choices"][0]["message"]["role"] == "assistant" and answer["usage"]["completion_tokens"] == 3
    slot = pool.slots["tiny"]
    assert pool.state_of("tiny") == "loaded" and slot.located.snapshot_path.is_relative_to(caches.primary.path)
    pid = slot.engine.process.pid
    assert not is_removable(repo(caches.primary)) and is_removable(repo(caches.secondary))
    assert await pool.unload("tiny") and not psutil.pid_exists(pid)
    assert is_removable(repo(caches.primary))
    assert pool.state_of("tiny") == "unloaded" and not await pool.unload("tiny")


async def test_the_users_sql_moves_the_next_load_to_the_other_drive(pool, tiny, caches) -> None:
    await sync_to_async(ModelRegistry.objects.filter(pk=tiny.pk).update)(cache_location="secondary", cache_path="/x")
    await chat(pool)
    assert pool.slots["tiny"].located.snapshot_path.is_relative_to(caches.secondary.path)


async def test_many_who_ask_at_once_share_one_load(pool) -> None:
    answers = await asyncio.gather(*(chat(pool) for _ in range(4)))
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert len(pool.slots) == 1 and pool.slots["tiny"].in_flight == 0


async def test_uses_are_counted(pool, tiny) -> None:
    await chat(pool)
    await chat(pool)
    deadline = time.monotonic() + 10
    while tiny.use_count < 2:
        assert time.monotonic() < deadline
        await sync_to_async(tiny.refresh_from_db)()
    assert tiny.use_count == 2 and tiny.last_used_at is not None


async def test_the_load_goes_on_when_the_one_who_asked_leaves(pool) -> None:
    asking = asyncio.create_task(chat(pool))
    await until(lambda: pool.state_of("tiny") == "loading")
    asking.cancel()
    await until(lambda: pool.state_of("tiny") == "loaded", seconds=30)
    assert pool.slots["tiny"].in_flight == 0


async def test_a_model_in_use_is_not_unloaded(pool) -> None:
    async with pool.use("tiny"):
        with pytest.raises(ModelBusy, match="1 requests"):
            await pool.unload("tiny")


async def test_an_idle_model_leaves_after_its_time(pool) -> None:
    async with pool.use("tiny", keep_alive_seconds=0) as engine:
        pid = engine.process.pid
    await until(lambda: pool.state_of("tiny") == "unloaded" and not psutil.pid_exists(pid))


async def test_a_pinned_model_stays_however_idle_it_is(pool, tiny) -> None:
    await sync_to_async(ModelRegistry.objects.update)(pinned=True)
    async with pool.use("tiny", keep_alive_seconds=0):
        slot = pool.slots["tiny"]
    assert not slot.is_overdue and await pool.unload("tiny")


async def test_an_engine_that_is_killed_leaves_the_pool_and_the_next_request_loads_again(pool, caches) -> None:
    await chat(pool)
    os.kill(pool.slots["tiny"].engine.process.pid, signal.SIGKILL)
    await until(lambda: pool.state_of("tiny") == "unloaded" and is_removable(repo(caches.primary)))
    assert (await chat(pool))["choices"]


async def test_a_model_that_cannot_be_loaded_fails_with_the_engines_last_words(pool, tiny, caches) -> None:
    weights = Path(caches.primary.path) / "models--demo--tiny" / "snapshots" / ("a" * 40) / "model.safetensors"
    blob = weights.resolve()
    blob.write_bytes(b"not a tensor")
    with pytest.raises(EngineFailed, match="tiny could not be loaded"):
        await pool.load("tiny")
    assert pool.state_of("tiny") == "unloaded" and is_removable(repo(caches.primary))
    shutil.copy(caches.secondary.path + str(blob).removeprefix(caches.primary.path), blob)
    await pool.load("tiny")


async def test_unknown_and_missing_models_are_refused_at_once(pool, tiny) -> None:
    with pytest.raises(UnknownModel):
        await pool.load("nobody")
    await sync_to_async(ModelRegistry.objects.create)(model_name="empty", hf_path="org/empty")
    with pytest.raises(ModelNotDownloaded, match="registered, but its files are not in"):
        await pool.load("empty")
    assert not pool.slots


async def test_more_requests_than_allowed_are_refused_and_told_when_to_come_back(pool) -> None:
    await pool.load("tiny")
    pool.max_requests = 2
    async with pool.use("tiny"), pool.use("tiny"):
        with pytest.raises(Overloaded) as refused:
            await chat(pool)
    assert refused.value.retry_after_seconds > 0
    assert (await chat(pool))["choices"]


async def test_what_does_not_fit_into_memory_is_refused_with_numbers(pool, monkeypatch) -> None:
    monkeypatch.setattr(pool, "_available_bytes", lambda: 10**8)
    with pytest.raises(InsufficientMemory, match=r"needs about .* MB of memory, and 100 MB are free"):
        await pool.load("tiny")


async def test_an_idle_model_makes_room_for_another(pool, tiny, monkeypatch) -> None:
    await sync_to_async(ModelRegistry.objects.create)(model_name="twin", hf_path="demo/tiny", status="ready")
    await pool.load("tiny")
    room = iter([10**8])
    monkeypatch.setattr(pool, "_available_bytes", lambda: next(room, 10**10))
    await pool.load("twin")
    assert pool.state_of("tiny") == "unloaded" and pool.state_of("twin") == "loaded"


async def test_nothing_is_left_when_the_pool_closes(pool, caches) -> None:
    await pool.load("tiny")
    process = pool.slots["tiny"].engine
    await pool.close()
    assert not psutil.pid_exists(process.process.pid) and not process.plan.socket_path.exists()
    assert is_removable(repo(caches.primary))
