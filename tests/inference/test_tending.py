"""What becomes of engines: that each is watched to its end, and that what we end ourselves is no crash. The processes are
real, and only sleep; what they say of themselves says the test."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from cachemgr.locks import shared
from inference.accounting import usage_of_load
from inference.errors import EngineDied, InsufficientMemory
from inference.pool import EnginePool
from inference.process import EnginePlan, EngineProcess
from inference.slots import Slot
from inference.watchdog import Patience
from tests.inference.conftest import BUSY_SECONDS
from tests.inference.pooling import is_removable, until

SLEEP = "import time; print(flush=True); time.sleep(3600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
WORKING = {"active": 1, "steps": 1}


@pytest.fixture
def pool() -> EnginePool:
    return EnginePool(keep_alive_seconds=-1, max_requests=8, patience=Patience(look_seconds=0.05))


async def start_process(folder: Path, script: str = SLEEP) -> EngineProcess:
    """Once it runs."""
    plan = EnginePlan("m", folder, folder / "m.sock", folder / "m.log", folder)
    plan.log_path.touch()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, start_new_session=True, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    return EngineProcess(plan, process)


@asynccontextmanager
async def saying(engine: EngineProcess, status: Callable[[], object]) -> AsyncIterator[None]:
    """At its socket."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps(status()).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, engine.plan.socket_path):
        yield


def put_in(pool: EnginePool, slot: Slot, loading: "asyncio.Task[EngineProcess]") -> None:
    """As the pool begins a load."""
    slot.loading = loading
    loading.add_done_callback(lambda task: pool._settle(slot, task))
    pool.residents.add(slot)


async def loaded(pool: EnginePool, engine: EngineProcess, *, what: object = None) -> Slot:
    async def load() -> EngineProcess:
        slot.enter("ready")
        return engine

    slot = Slot("m", what=what, engine=engine)
    put_in(pool, slot, asyncio.create_task(load()))
    await until(lambda: slot.watching)
    return slot


async def test_an_engine_whose_log_is_gone_is_seen_to_die(pool, tmp_path) -> None:
    engine = await start_process(tmp_path)
    async with saying(engine, lambda: WORKING):
        await loaded(pool, engine)
        engine.plan.log_path.unlink()
        os.killpg(engine.pid, signal.SIGKILL)
        await until(lambda: pool.state_of("m") == "unloaded")
    assert pool.tender.last_errors["m"].message == "The engine of m was killed (SIGKILL) while it worked."


async def test_an_engine_that_cannot_be_watched_is_ended(pool, tmp_path, caplog) -> None:
    engine = await start_process(tmp_path)
    async with saying(engine, lambda: ["no", "status"]):
        await loaded(pool, engine)
        await until(lambda: pool.state_of("m") == "unloaded" and not psutil.pid_exists(engine.pid))
    assert "it could not be watched" in pool.tender.last_errors["m"].message
    assert "Traceback" in caplog.text  # nobody knew that this could be


async def test_a_load_that_ends_in_the_moment_of_an_unload_is_no_crash(pool, tmp_path) -> None:
    engine = await start_process(tmp_path)
    ready: asyncio.Future[EngineProcess] = asyncio.get_running_loop().create_future()

    async def load() -> EngineProcess:
        return await ready

    slot = Slot("m", engine=engine)
    put_in(pool, slot, asyncio.create_task(load()))
    await asyncio.sleep(0)
    ready.set_result(engine)
    await pool.residents.end(slot)
    await until(lambda: not psutil.pid_exists(engine.pid) and not pool.residents.everyone)
    assert slot.watching is None and "m" not in pool.tender.last_errors
    assert pool.crashes.pause_seconds("m", now=0) == 0


async def test_a_load_that_fails_while_it_is_unloaded_keeps_its_lock_until_its_engine_is_gone(pool, tmp_path) -> None:
    """Its engine ignores SIGTERM, so it lives for seconds."""
    folder = tmp_path / "repo"
    folder.mkdir()
    engine = await start_process(tmp_path, DEAF)
    slot = Slot("m", engine=engine, lock=shared(folder, wait_seconds=1))

    async def load() -> EngineProcess:
        try:
            raise EngineDied("It broke.")
        except BaseException:
            await slot.end()
            raise

    put_in(pool, slot, asyncio.create_task(load()))
    await asyncio.sleep(0.1)
    ending = pool.residents.end(slot)
    await until(lambda: is_removable(folder))
    assert not psutil.pid_exists(engine.pid)
    await ending


async def test_a_model_that_loads_again_is_not_called_failed_any_more(pool, tmp_path) -> None:
    for _ in range(3):
        pool.crashes.note("m", what="old settings", message="It broke.", now=1)
    assert pool.state_of("m") == "failed"
    engine = await start_process(tmp_path)
    async with saying(engine, lambda: WORKING):
        slot = await loaded(pool, engine, what="new settings")
        await pool.residents.end(slot)
    assert pool.state_of("m") == "unloaded"


@pytest.mark.parametrize(("kills_since", "kind"), [(0, EngineDied), (1, InsufficientMemory)])
async def test_only_a_kill_for_memory_since_its_last_answer_counts(tmp_path, monkeypatch, kills_since, kind) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("oom_kill 4\n")
    monkeypatch.setattr("inference.endings._VMSTAT", vmstat)
    engine = await start_process(tmp_path)
    vmstat.write_text("oom_kill 5\n")  # another process of this machine
    async with saying(engine, lambda: WORKING):
        await engine.get("/status", limit_seconds=BUSY_SECONDS)
    vmstat.write_text(f"oom_kill {5 + kills_since}\n")
    os.killpg(engine.pid, signal.SIGKILL)
    assert await engine.wait_for_end(seconds=BUSY_SECONDS)
    assert isinstance(engine.explain_end(), kind)


def test_a_load_that_somebody_ended_is_no_error() -> None:
    usage = usage_of_load(Slot("m"), asyncio.CancelledError())
    assert (usage.status, usage.error_code, usage.load_seconds) == ("left", "", None)
    usage = usage_of_load(Slot("m"), ValueError())
    assert (usage.status, usage.error_code) == ("error", "internal_error")
