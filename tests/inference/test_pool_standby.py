"""An engine that waits with its libraries in memory: loads take it, and it is nobody's burden."""

from pathlib import Path

import psutil
import pytest

from inference.devices import read_taken
from inference.facts import read_facts
from inference.memory import Choices, plan_memory
from inference.places import Device
from inference.pool import EnginePool
from inference.slots import Slot
from tests.inference.pooling import LOAD_SECONDS, chat, until

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_load_takes_the_engine_that_waits_and_a_new_one_is_started_after_it(tiny) -> None:
    pool = EnginePool(keep_alive_seconds=-1, max_requests=8, has_standby=True)
    await pool.start()
    try:
        await until(lambda: pool.standby.is_waiting)
        waiting = pool.standby.pid
        await until(lambda: read_taken(waiting)["cpu"] > 100 * 10**6, seconds=LOAD_SECONDS)
        assert (await chat(pool))["choices"]
        assert pool.residents.slots["tiny"].engine.pid == waiting
        await until(lambda: pool.standby.is_waiting)
        second = pool.standby.pid
        assert second != waiting
        await pool.unload("tiny")
        assert not psutil.pid_exists(waiting)
        psutil.Process(second).kill()  # who waits may die: the next load starts its own
        await until(lambda: not pool.standby.is_waiting)
        assert (await chat(pool))["choices"]
        third = pool.standby._process
    finally:
        await pool.close()
    assert third is None or not psutil.pid_exists(third.pid)


async def test_none_waits_where_memory_is_short(tiny) -> None:
    machine = (Device("cpu", 10**9, 5 * 10**8, "a small machine"),)
    pool = EnginePool(keep_alive_seconds=-1, max_requests=8, has_standby=True, read_devices=lambda: machine)
    await pool._preload()  # there is nothing to preload
    assert not pool.standby.is_waiting
    await pool.close()


async def test_none_is_started_in_memory_that_is_promised_to_a_model(tiny_folder: Path) -> None:
    facts, roomy = read_facts(tiny_folder), Device("cpu", 10**12, 10**12, "a large machine")
    plan = plan_memory(facts, choices=Choices(), devices=(roomy,))
    free_bytes = plan.total_bytes + 4 * 10**8
    machine = (Device("cpu", free_bytes, free_bytes, "a machine"),)
    pool = EnginePool(keep_alive_seconds=-1, max_requests=8, has_standby=True, read_devices=lambda: machine)
    loading = Slot("m", memory=plan)
    pool.residents.add(loading)
    await pool._fill_standby()
    assert not pool.standby.is_waiting
    pool.residents.forget(loading)
    await pool._fill_standby()
    assert pool.standby.is_waiting
    await pool.close()
