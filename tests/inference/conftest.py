"""A tiny model in a cache, and a pool that serves it with real engine processes."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async

from demo.tiny_model import make_tiny_llama
from inference.pool import EnginePool
from inference.watchdog import Patience
from registry.models import ModelRegistry
from tests.factories import make_cached_repo

BUSY_SECONDS = 3
"""So much later may things happen on a machine that runs many tests at once."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    make_tiny_llama(folder)
    return folder


@pytest.fixture(scope="session")
def endless_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, without tokens that end an answer: each one lasts as long as it may."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path_factory.mktemp("endless") / "model"))
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bad_words_ids": [[0], [2]]}))
    return folder


def put_in_cache(folder: Path, cache_path: str, *, repo_id: str) -> Path:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return make_cached_repo(Path(cache_path), repo_id, files=files)


def make_ready(name: str, *, hf_path: str = "demo/tiny", **columns) -> ModelRegistry:
    return ModelRegistry.objects.create(model_name=name, hf_path=hf_path, status="ready", revision="a" * 40, **columns)


@pytest.fixture
def tiny(caches, tiny_folder: Path) -> ModelRegistry:
    """A ready model on the primary cache, and the same repo on the secondary one."""
    for cache in (caches.primary, caches.secondary):
        put_in_cache(tiny_folder, cache.path, repo_id="demo/tiny")
    return make_ready("tiny")


@pytest.fixture
async def pool(tiny: ModelRegistry) -> AsyncIterator[EnginePool]:
    pool = EnginePool(keep_alive_seconds=-1, max_requests=8, patience=Patience(silent_seconds=600))
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def in_thread():
    """For a test's own queries from asynchronous code."""
    return sync_to_async
