"""A real engine process with a tiny model, started once, and what is needed to start more of them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from openai import OpenAI

from demo.tiny_model import make_tiny_llama

if TYPE_CHECKING:
    from inference.engine.batching import BatchingRunner
    from inference.engine.loading import LoadedModel

DEVICE = os.environ.get("ENGINE_DEVICE", "cpu")
"""Where the models of these tests run: with ENGINE_DEVICE=cuda:0 on a GPU."""
only_on_cpu = pytest.mark.skipif(DEVICE != "cpu", reason="it counts the pages and steps of a CPU")
UNKNOWN_WORD = "<|unheard|>"
START_SECONDS = 90


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@dataclass
class Engine:
    """A running engine; its stdin is the pipe that keeps it alive."""

    process: subprocess.Popen[bytes]
    socket: Path
    client: httpx2.Client
    errors: Path

    def read_errors(self) -> str:
        return self.errors.read_text()

    def post(self, path: str, **body: Any) -> httpx2.Response:
        return self.client.post(path, json=body)

    def chat(self, text: str, **body: Any) -> httpx2.Response:
        return self.post("/v1/chat/completions", messages=user(text), **body)

    def stream(self, path: str, **body: Any) -> list[str]:
        """The `data:` values of the events, in order."""
        with self.client.stream("POST", path, json={"stream": True, **body}) as response:
            assert response.status_code == 200, response.read()
            return [line.removeprefix("data: ") for line in response.iter_lines() if line]

    def count(self) -> tuple[int, int]:
        """(active, queued)"""
        status = self.client.get("/status").json()
        return status["active"], status["queued"]


def wait_until(is_true: Callable[[], Any], *, seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := is_true()):
        assert time.monotonic() < deadline, f"It was not so within {seconds} seconds."
        time.sleep(0.02)
    return value


def make_command(
    socket: Path, *arguments: str, model_path: Path | str, name: str = "tiny", module: str = "inference.engine"
) -> list[str]:
    command = [sys.executable, "-m", module, "--socket", str(socket), "--model-path", str(model_path)]
    return [*command, "--model-name", name, "--device", DEVICE, *arguments]


def takes_connections(path: Path) -> bool:
    """A socket has its name a moment before anybody listens."""
    with socket.socket(socket.AF_UNIX) as knock:
        return knock.connect_ex(str(path)) == 0


@contextmanager
def start_engine(
    model_path: Path | str, *arguments: str, is_ready: bool = True, module: str = "inference.engine"
) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        path = Path(folder) / "engine.sock"
        errors = Path(folder) / "stderr"
        with errors.open("wb") as stderr:
            command = make_command(path, *arguments, model_path=model_path, module=module)
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=stderr)
        client = httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path)), base_url="http://engine", timeout=60)
        try:
            wait_until(lambda: takes_connections(path))
            engine = Engine(process=process, socket=path, client=client, errors=errors)
            if is_ready:
                wait_until(lambda: client.get("/health").status_code == 200, seconds=START_SECONDS)
            yield engine
        finally:
            client.close()
            process.kill()
            process.wait()
            process.stdin.close()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tokenizer knows one word that its weights do not."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny_llama(folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    next_id = 1 + max(tokenizer["model"]["vocab"].values())
    word = {"id": next_id, "content": UNKNOWN_WORD, "special": False, "normalized": False}
    tokenizer["added_tokens"].append(word | dict.fromkeys(("single_word", "lstrip", "rstrip"), False))
    path.write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes its time: generations last long enough to be left."""
    folder = tmp_path_factory.mktemp("models") / "small"
    make_tiny_llama(folder, size="small")
    return never_end(folder)


def connect(engine: Engine) -> OpenAI:
    client = httpx2.Client(transport=httpx2.HTTPTransport(uds=str(engine.socket)))
    return OpenAI(base_url="http://engine/v1", api_key="none", http_client=client, max_retries=0)


def never_end(folder: Path) -> Path:
    """Without end tokens each generation lasts as long as it may."""
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bad_words_ids": [[0], [2]]}))
    return folder


@pytest.fixture(scope="session")
def engine(model_folder: Path) -> Iterator[Engine]:
    with start_engine(model_folder) as started:
        yield started


@pytest.fixture(scope="session")
def slow_engine(small_folder: Path) -> Iterator[Engine]:
    """Two requests at once, whatever is more waits."""
    with start_engine(small_folder, "--parallel-requests", "2") as started:
        yield started


@pytest.fixture(scope="session")
def generate_engine(model_folder: Path) -> Iterator[Engine]:
    """As for a model that cannot be batched."""
    with start_engine(model_folder, "--backend", "generate") as started:
        yield started


@pytest.fixture(scope="session")
def failing_engine(model_folder: Path) -> Iterator[Engine]:
    with start_engine(model_folder, module="tests.inference.engine.failing_engine") as started:
        yield started


@pytest.fixture
def openai(engine: Engine) -> Iterator[OpenAI]:
    with connect(engine) as client:
        yield client


@pytest.fixture
def copied_folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "copied"))


@pytest.fixture(scope="module")
def loaded(model_folder: Path) -> "LoadedModel":
    """For plain `generate`, in this process."""
    from tests.inference.engine.inside import load

    return load(model_folder)


@pytest.fixture(scope="module")
def runner(model_folder: Path) -> "BatchingRunner":
    from tests.inference.engine.inside import make_runner

    return make_runner(model_folder)
