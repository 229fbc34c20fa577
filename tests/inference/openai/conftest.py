"""A gateway before a pool with a tiny model that never ends by itself."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inference.pool import EnginePool
from tests.inference.conftest import make_ready, put_in_cache
from tests.inference.gateway import Gateway, serving


@pytest.fixture
async def gateway(tiny, caches, endless_folder: Path) -> AsyncIterator[Gateway]:
    """It offers `tiny`, and `endless`, both cold."""
    put_in_cache(endless_folder, caches.primary.path, repo_id="demo/endless")
    from asgiref.sync import sync_to_async

    await sync_to_async(make_ready)("endless", hf_path="demo/endless")
    async with serving(EnginePool(keep_alive_seconds=-1, max_requests=8)) as running:
        yield running
