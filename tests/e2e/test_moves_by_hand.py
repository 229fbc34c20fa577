"""The user's guide moves a model with `cp` and SQL. Under a running stream, with the real server, no token is lost."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from demo.tiny_model import make_tiny_llama
from tests.cachemgr.test_locks import SET_UP
from tests.e2e.server import PROJECT, Server, running_server, wait_for
from tests.factories import make_cached_repo

pytestmark = pytest.mark.e2e

FOLDER = "models--demo--tiny"
QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "tell me"}], "max_tokens": 120, "temperature": 0}
REMOVE = """
import shutil, time
with locks.exclusive(folder, wait_seconds=60):
    print(time.time(), flush=True)
    shutil.rmtree(folder)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("by-hand")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    make_tiny_llama(folder / "model")
    files = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
    make_cached_repo(folder / "fast", "demo/tiny", files=files)
    with running_server(folder, CACHE_MONITOR_INTERVAL_SECONDS="1", KEEP_ALIVE="-1") as running:
        wait_for(lambda: running.get("/api/models")[1])
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def read(chunks: openai.Stream) -> tuple[str, float]:
    """The rest of an answer, and when its last token came."""
    text, last = "", 0.0
    for chunk in chunks:
        text, last = text + (chunk.choices[0].delta.content or ""), time.time()
    return text, last


def move_by_hand(folder: Path, server: Server) -> float:
    """Steps 2 and 3 of the guide; answers when they were done."""
    subprocess.run(["cp", "-r", folder / "fast" / FOLDER, folder / "slow"], check=True)
    database = sqlite3.connect(server.data_dir / "db.sqlite3", timeout=20)
    with database:
        database.execute(
            "UPDATE modelregistry SET cache_location = 'secondary', cache_path = '/mnt/z/llm-models-cache' "
            "WHERE model_name = 'tiny'"
        )
    database.close()
    return time.time()


def test_a_move_by_hand_under_a_running_stream_loses_no_token(folder: Path, server: Server, client) -> None:
    undisturbed, _ = read(client.chat.completions.create(stream=True, **QUESTION))
    stream = iter(client.chat.completions.create(stream=True, **QUESTION))
    beginning = next(stream).choices[0].delta.content or ""
    moved_at = move_by_hand(folder, server)
    command = [sys.executable, "-c", SET_UP + REMOVE, str(server.data_dir), str(folder / "fast" / FOLDER)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as remover:
        ending, last_token_at = read(stream)
        assert beginning + ending == undisturbed
        assert moved_at < last_token_at < float(remover.stdout.readline())
    assert remover.returncode == 0 and not (folder / "fast" / FOLDER).exists()
    assert client.chat.completions.create(**QUESTION).choices[0].message.content == undisturbed
    (loaded,) = server.get("/api/ps")[1]
    assert loaded["cache_path"].startswith(str(folder / "slow"))
    (model,) = server.get("/api/models")[1]  # no twin, however often the monitor looked
    assert (model["model_name"], model["cache_location"], model["status"]) == ("tiny", "secondary", "ready")
