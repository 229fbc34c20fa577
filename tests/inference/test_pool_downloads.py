"""A model that is on no drive, and may be downloaded when somebody asks for it: from a real hub, by a real job."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async

from inference.errors import DownloadFailed
from inference.loading import identity_of
from inference.pool import EnginePool
from registry.errors import ModelNotDownloaded
from registry.models import Job, ModelRegistry
from registry.services import Wish, register
from tests.inference.pooling import chat, until
from tests.registry.downloading import run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def pool(caches) -> AsyncIterator[EnginePool]:
    """Its caches are empty: what lies on a drive already would be copied, not downloaded."""
    pool = EnginePool(keep_alive_seconds=-1, max_requests=8)
    await pool.start()
    yield pool
    await pool.close()


async def register_far(hub_repos: Path, folder: Path, **columns) -> ModelRegistry:
    """`far` lies on the hub alone."""
    shutil.copytree(folder, hub_repos / "demo" / "far")
    await sync_to_async(register)(Wish("far", "demo/far", cache_location="primary"))
    await sync_to_async(ModelRegistry.objects.filter(model_name="far").update)(**columns)
    return await sync_to_async(ModelRegistry.objects.get)(model_name="far")


async def queued_job() -> Job:
    """Once the pool has asked for it."""
    async with asyncio.timeout(10):
        while not (job := await sync_to_async(Job.objects.open().first)()):
            await asyncio.sleep(0.05)
    return job


async def test_without_the_owners_word_nothing_is_downloaded(pool, hub, hub_repos, tiny_folder) -> None:
    await register_far(hub_repos, tiny_folder)
    with pytest.raises(ModelNotDownloaded, match="POST /api/models/far/download"):
        await chat(pool, "far")
    assert not await sync_to_async(Job.objects.exists)()


async def test_a_request_downloads_what_may_be_downloaded_and_then_loads_it(pool, hub, hub_repos, tiny_folder) -> None:
    await register_far(hub_repos, tiny_folder, downloads_on_request=True)
    hub.faults.rate_bytes_per_second = 3_000_000
    asking = asyncio.create_task(chat(pool, "far"))
    job = await queued_job()
    slot = pool.residents.slots["far"]
    await until(lambda: slot.stage.name == "downloading")
    working = asyncio.create_task(sync_to_async(run, thread_sensitive=False)(job))
    await until(lambda: 0 < slot.stage.bytes_done < slot.stage.bytes_total, seconds=60)
    assert " of 22" in str(slot.stage) and pool.state_of("far") == "loading"
    hub.faults.rate_bytes_per_second = None
    await working
    assert (await asking)["choices"]
    assert {"downloading", "reading"} <= set(slot.stage_seconds)
    assert slot.what == identity_of(await sync_to_async(ModelRegistry.objects.get)(model_name="far"))


async def test_a_download_that_fails_is_told_to_those_who_wait(pool, hub, hub_repos, tiny_folder) -> None:
    await register_far(hub_repos, tiny_folder, downloads_on_request=True)
    shutil.rmtree(hub_repos / "demo" / "far")
    asking = asyncio.create_task(chat(pool, "far"))
    await sync_to_async(run, thread_sensitive=False)(await queued_job())
    with pytest.raises(DownloadFailed, match="far could not be downloaded"):
        await asking
    assert pool.state_of("far") == "unloaded"
