"""What engines do while files move and go: nobody removes them under an engine's feet, and no token is lost."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings

from inference.pool import EnginePool
from registry.errors import UnknownModel
from registry.models import ModelRegistry
from tests.cachemgr.test_locks import HOLD, SET_UP
from tests.e2e.server import PROJECT
from tests.inference.conftest import BUSY_SECONDS
from tests.inference.pooling import chat, is_removable, point_to, repo, until

pytestmark = pytest.mark.django_db(transaction=True)
LONG = {"model": "tiny", "messages": [{"role": "user", "content": "tell"}], "max_tokens": 60, "temperature": 0}


def lock_files(pid: int) -> list[str]:
    """The lock files that a process has open."""
    opened = [file.path for file in psutil.Process(pid).open_files()]
    return [path for path in opened if path.startswith(str(settings.DATA_DIR / "locks"))]


async def stream(pool: EnginePool, begun: asyncio.Event) -> str:
    """The text of a long answer, as it came piece by piece."""
    text, finish = "", None
    async with pool.use("tiny") as engine:
        answer = await engine.send("POST", "/v1/chat/completions", body=json.dumps(LONG | {"stream": True}).encode())
        async for part in answer.parts():
            for line in part.decode().splitlines():
                if line.startswith("data: {"):
                    (choice,) = json.loads(line.removeprefix("data: "))["choices"]
                    text += choice["delta"].get("content") or ""
                    finish = choice["finish_reason"] or finish
            begun.set()
        answer.close()
    assert finish is not None
    return text


async def test_a_stream_ends_on_the_old_drive_while_new_requests_load_from_the_new_one(pool, caches) -> None:
    undisturbed = await stream(pool, asyncio.Event())
    old, begun = pool.residents.slots["tiny"], asyncio.Event()
    streaming = asyncio.create_task(stream(pool, begun))
    await begun.wait()
    os.kill(old.engine.process.pid, signal.SIGSTOP)  # it may not end before the new one has answered
    moved = await point_to("secondary")
    await until(lambda: pool.residents.slots.get("tiny") is not old)
    assert time.monotonic() - moved < 2 + BUSY_SECONDS and not streaming.done()
    assert (await chat(pool))["choices"]
    assert pool.residents.slots["tiny"].located.snapshot_path.is_relative_to(caches.secondary.path)
    assert not is_removable(repo(caches.primary))
    os.kill(old.engine.process.pid, signal.SIGCONT)
    assert await streaming == undisturbed
    ended = time.monotonic()
    await until(lambda: is_removable(repo(caches.primary)))
    assert time.monotonic() - ended < 2 + BUSY_SECONDS
    assert not psutil.pid_exists(old.engine.process.pid) and not pool.residents.leaving


async def test_an_idle_engine_holds_its_files_until_the_row_names_another_place(pool, caches) -> None:
    await pool.load("tiny")
    engine = pool.residents.slots["tiny"].engine
    assert lock_files(engine.process.pid) == lock_files(os.getpid()) != []  # one of the two may die before the other
    await sync_to_async(ModelRegistry.objects.update)(cache_path="/mnt/z/llm-models-cache")  # says nothing for primary
    assert await pool.reaper.look_again() == [] and not is_removable(repo(caches.primary))
    moved = await point_to("secondary")
    await until(lambda: is_removable(repo(caches.primary)))
    assert time.monotonic() - moved < 2 + BUSY_SECONDS and not psutil.pid_exists(engine.process.pid)
    assert pool.state_of("tiny") == "unloaded"


async def test_the_engine_of_a_row_that_is_gone_ends(pool, tiny, caches) -> None:
    await pool.load("tiny")
    await sync_to_async(tiny.delete)()
    await until(lambda: is_removable(repo(caches.primary)))
    with pytest.raises(UnknownModel):
        await pool.load("tiny")


async def test_a_lookup_that_nobody_waits_for_any_more_keeps_no_lock(pool, caches) -> None:
    folder = repo(caches.primary)
    command = [sys.executable, "-c", SET_UP + HOLD, str(settings.DATA_DIR), str(folder), "exclusive"]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as remover:
        assert remover.stdout.readline() == "held\n"
        loading = asyncio.create_task(pool.load("tiny"))
        await until(lambda: lock_files(os.getpid()))  # a thread waits for the lock
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        assert await pool.unload("tiny") and lock_files(os.getpid())
        remover.stdin.close()
    await until(lambda: not lock_files(os.getpid()))
    assert pool.state_of("tiny") == "unloaded"
