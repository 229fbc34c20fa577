"""What tests of the pool share: asking a model, and waiting."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async

from cachemgr.errors import RepoBusy
from cachemgr.locks import exclusive
from inference.pool import EnginePool
from registry.models import ModelRegistry

LOAD_SECONDS = 120
"""So long may a load take, on a machine that runs many tests at once."""
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, "temperature": 0}


async def chat(pool: EnginePool, name: str = "tiny", **fields: Any) -> dict[str, Any]:
    async with pool.use(name) as engine:
        answer = await engine.send("POST", "/v1/chat/completions", body=json.dumps(HELLO | fields).encode())
        try:
            return json.loads(await answer.read())
        finally:
            answer.close()


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


async def until(condition: Callable[[], Any], *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)
