"""An engine that waits with its libraries in memory: loads take it, and it is nobody's burden."""

import psutil
import pytest

from inference.devices import Device
from inference.pool import EnginePool
from tests.inference.pooling import LOAD_SECONDS, chat, until

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_load_takes_the_engine_that_waits_and_a_new_one_is_started_after_it(tiny) -> None:
    pool = EnginePool(keep_alive_seconds=-1, max_requests=8, has_standby=True)
    await pool.start()
    try:
        await until(lambda: pool.standby.memory_bytes > 100 * 10**6, seconds=LOAD_SECONDS)
        waiting = pool.standby._process.pid
        assert (await chat(pool))["choices"]
        assert pool.residents.slots["tiny"].engine.pid == waiting
        await until(lambda: pool.standby.is_waiting)
        second = pool.standby._process.pid
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
    await pool.standby.fill(read_devices=pool.queue.read_devices)
    assert not pool.standby.is_waiting and pool.standby.memory_bytes == 0
    await pool.close()
