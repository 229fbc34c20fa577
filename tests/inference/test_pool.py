"""The pool with real engines: who loads, who waits, who leaves, and what becomes of the dead."""

import asyncio
import json
import os
import signal

import psutil
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection

from inference.errors import ModelBusy, ModelNotLoadable, ModelUnloaded
from inference.facts import ModelFacts, read_facts
from inference.memory import Choices, plan_memory
from inference.models import UsageRecord
from inference.places import Device
from inference.pool import EnginePool
from inference.slots import Slot
from registry.errors import ModelNotDownloaded, UnknownModel
from registry.models import ModelRegistry
from tests.inference.conftest import BUSY_SECONDS, make_ready
from tests.inference.pooling import LOAD_SECONDS, chat, is_removable, repo, until

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_model_is_loaded_from_its_own_cache_answers_and_is_unloaded(pool, tiny, caches) -> None:
    assert pool.state_of("tiny") == "unloaded"
    answer = await chat(pool)
    assert answer["choices"][0]["message"]["role"] == "assistant" and answer["usage"]["completion_tokens"] == 3
    slot = pool.residents.slots["tiny"]
    assert pool.state_of("tiny") == "loaded" and slot.located.snapshot_path.is_relative_to(caches.primary.path)
    pid = slot.engine.process.pid
    assert not is_removable(repo(caches.primary)) and is_removable(repo(caches.secondary))
    assert await pool.unload("tiny") and not psutil.pid_exists(pid)
    assert is_removable(repo(caches.primary))
    assert pool.state_of("tiny") == "unloaded" and not await pool.unload("tiny")


async def test_the_users_sql_moves_the_next_load_to_the_other_drive(pool, tiny, caches) -> None:
    await sync_to_async(ModelRegistry.objects.filter(pk=tiny.pk).update)(cache_location="secondary", cache_path="/x")
    await chat(pool)
    assert pool.residents.slots["tiny"].located.snapshot_path.is_relative_to(caches.secondary.path)


async def test_many_who_ask_at_once_share_one_load(pool) -> None:
    answers = await asyncio.gather(*(chat(pool) for _ in range(4)))
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert len(pool.residents.slots) == 1 and pool.residents.slots["tiny"].in_flight == 0


async def test_the_load_goes_on_when_the_one_who_asked_leaves(pool) -> None:
    asking = asyncio.create_task(chat(pool))
    await until(lambda: pool.state_of("tiny") == "loading")
    asking.cancel()
    await until(lambda: pool.state_of("tiny") == "loaded", seconds=LOAD_SECONDS)
    assert pool.residents.slots["tiny"].in_flight == 0


async def test_a_model_in_use_is_not_unloaded(pool) -> None:
    async with pool.use("tiny"):
        with pytest.raises(ModelBusy, match="1 requests"):
            await pool.unload("tiny")


async def test_an_idle_model_leaves_after_its_time(pool) -> None:
    async with pool.use("tiny", keep_alive_seconds=0) as engine:
        pid = engine.process.pid
    await until(lambda: pool.state_of("tiny") == "unloaded" and not psutil.pid_exists(pid))


async def test_a_pinned_model_stays_however_idle_it_is(pool, tiny) -> None:
    async with pool.use("tiny", keep_alive_seconds=600):
        slot = pool.residents.slots["tiny"]
    await sync_to_async(ModelRegistry.objects.update)(pinned=True)
    await until(lambda: slot.is_pinned)  # also one that is loaded already
    slot.keep_alive_seconds = 0
    assert not slot.is_overdue(default_seconds=0) and await pool.unload("tiny")


async def test_an_engine_that_is_killed_leaves_the_pool_and_the_next_request_loads_again(pool, caches) -> None:
    await chat(pool)
    os.kill(pool.residents.slots["tiny"].engine.process.pid, signal.SIGKILL)
    await until(lambda: pool.state_of("tiny") == "unloaded" and is_removable(repo(caches.primary)))
    assert (await chat(pool))["choices"]


async def test_a_model_that_cannot_be_loaded_fails_with_the_engines_last_words(pool, tiny, caches) -> None:
    config = repo(caches.primary) / "snapshots" / ("a" * 40) / "config.json"
    good = config.read_text()
    config.write_text(json.dumps(json.loads(good) | {"num_hidden_layers": 8}))
    with pytest.raises(ModelNotLoadable, match=r"tiny cannot be loaded: .* lacks .* of the model's tensors"):
        await pool.load("tiny")
    assert pool.state_of("tiny") == "unloaded" and is_removable(repo(caches.primary))
    config.write_text(good)
    await pool.load("tiny")


async def test_unknown_and_missing_models_are_refused_at_once(pool, tiny) -> None:
    with pytest.raises(UnknownModel):
        await pool.load("nobody")
    await sync_to_async(ModelRegistry.objects.create)(model_name="empty", hf_path="org/empty")
    with pytest.raises(ModelNotDownloaded, match="registered, but its files are not in"):
        await pool.load("empty")
    assert not pool.residents.slots


async def test_unloading_by_force_ends_requests_and_loads_with_a_sentence(pool) -> None:
    asking = asyncio.create_task(pool.load("tiny"))
    await until(lambda: pool.state_of("tiny") == "loading")
    assert await pool.unload("tiny", by_force=True)
    with pytest.raises(ModelUnloaded, match="taken out of memory"):
        await asking
    await pool.load("tiny")
    async with pool.use("tiny") as engine:
        assert await pool.unload("tiny", by_force=True)
        assert isinstance(engine.explain_end(), ModelUnloaded) and not psutil.pid_exists(engine.pid)


async def test_how_long_it_stays_says_the_request_else_the_model_else_the_server(pool, tiny) -> None:
    await pool.load("tiny")
    slot = pool.residents.slots["tiny"]
    assert slot.stay(default_seconds=7) == 7
    await pool.unload("tiny")
    await sync_to_async(ModelRegistry.objects.update)(keep_alive="90s")
    await pool.load("tiny")
    slot = pool.residents.slots["tiny"]
    assert slot.stay(default_seconds=7) == 90
    async with pool.use("tiny", keep_alive_seconds=600):
        assert slot.stay(default_seconds=7) == 600


async def test_models_to_preload_are_there_after_a_while_and_one_that_fails_stops_nobody(pool, tiny, caplog) -> None:
    await sync_to_async(ModelRegistry.objects.update)(preload=True)
    await sync_to_async(make_ready)("broken", hf_path="demo/nowhere", preload=True, priority=9)
    odd = await sync_to_async(make_ready)("odd", preload=True, priority=8)
    (settings.DATA_DIR / "logs" / f"engine-{odd.pk}.log").mkdir(parents=True)  # nobody thought of that
    second = EnginePool(keep_alive_seconds=-1, max_requests=8)
    await second.start()
    await until(lambda: second.state_of("tiny") == "loaded", seconds=LOAD_SECONDS)
    assert second.state_of("broken") == "unloaded"
    assert second.state_of("odd") == "unloaded" and "IsADirectoryError" in caplog.text
    assert "files are not in" in second.tender.last_errors["broken"].message
    await second.close()


async def test_nothing_is_left_when_the_pool_closes(pool, caches) -> None:
    await pool.load("tiny")
    process = pool.residents.slots["tiny"].engine
    await pool.close()
    assert not psutil.pid_exists(process.process.pid) and not process.plan.socket_path.exists()
    assert is_removable(repo(caches.primary))


def full_house(facts: ModelFacts, *, places: float = 1.5) -> EnginePool:
    """A pool on a machine that has room for one model, and that one is busy."""
    roomy = Device("cpu", 10**12, 10**12, "a large machine")
    plan = plan_memory(facts, choices=Choices(), devices=(roomy,))
    machine = Device("cpu", round(plan.total_bytes * places), plan.total_bytes // 2, "a machine")
    pool = EnginePool(keep_alive_seconds=-1, max_requests=8, read_devices=lambda: (machine,))
    busy = Slot("busy", memory=plan, in_flight=1)
    busy.enter("ready")
    pool.residents.add(busy)
    return pool


async def test_a_model_in_the_queue_is_unloaded_at_once_and_that_is_no_error(tiny, tiny_folder, in_thread) -> None:
    pool = full_house(read_facts(tiny_folder))
    asking = asyncio.create_task(pool.load("tiny"))
    await until(lambda: pool.queue.waiting and pool.queue.waiting[0].stage.reason)
    async with asyncio.timeout(BUSY_SECONDS):
        assert await pool.unload("tiny", by_force=True)
    with pytest.raises(ModelUnloaded):
        await asking
    assert set(pool.residents.slots) == {"busy"} and "tiny" not in pool.tender.last_errors
    await in_thread(pool.records.flush)()
    assert await in_thread(UsageRecord.objects.values_list("status", "error_code").get)() == ("left", "")


async def test_a_pool_closes_at_once_whoever_waits_for_memory(tiny, tiny_folder) -> None:
    pool = full_house(read_facts(tiny_folder))
    asking = asyncio.create_task(pool.load("tiny"))
    await until(lambda: pool.queue.waiting and pool.queue.waiting[0].stage.reason)
    async with asyncio.timeout(BUSY_SECONDS):
        await pool.close()
    with pytest.raises(ModelUnloaded):
        await asking


async def test_who_waits_looks_again_when_a_model_is_idle_and_not_after_each_request(pool) -> None:
    await pool.load("tiny")
    async with pool.use("tiny"):
        change = pool.residents.next_change
        async with pool.use("tiny"):
            pass
        assert not change.is_set()
    assert change.is_set()


async def test_the_web_process_reads_nothing_of_a_model(pool, monkeypatch) -> None:
    """A drive may hang in any read: the child that looks at it reads, and can be killed."""
    monkeypatch.setattr("inference.facts.read_facts", None)
    await pool.load("tiny")
    assert pool.residents.slots["tiny"].memory_bytes > 0


def write_nonsense() -> None:
    """As SQL by hand may: a time that is none. Django then fails with no error of the database."""
    if connection.vendor != "sqlite":
        pytest.skip("This database takes no nonsense.")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE modelregistry SET last_used_at = '2026-13-45 99:00:00'")


async def test_a_row_of_nonsense_keeps_no_idle_model_in_memory_and_is_said_once(pool, tiny, caplog) -> None:
    await pool.load("tiny")
    slot = pool.residents.slots["tiny"]
    await sync_to_async(write_nonsense)()
    await asyncio.sleep(2.5)  # the reaper looks each second
    assert caplog.text.count("have moved is not known") == 1 and pool.state_of("tiny") == "loaded"
    slot.keep_alive_seconds = 0
    await until(lambda: pool.state_of("tiny") == "unloaded")
