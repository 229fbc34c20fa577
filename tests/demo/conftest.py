"""A real hub on a free port of loopback, in a thread, with two small repos."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from demo.hub import make_app


@contextmanager
def serve(app: Starlette) -> Iterator[str]:
    """Yields the address of the running server."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture
def repos_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "repos"
    model = folder / "acme" / "tiny"
    (model / "onnx" / "deep").mkdir(parents=True)
    (model / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (model / "model.safetensors").write_bytes(make_safetensors(b"\1" * 4_000_000))
    (model / "onnx" / "deep" / "notes.txt").write_text("Nested, and small.")
    (model / "vocab.txt").write_bytes(b"word\n" * 300_000)
    (folder / "acme" / "other-name").mkdir()
    (folder / "acme" / "other-name" / "config.json").write_text("{}")
    (tmp_path / "secret.txt").write_text("outside")
    return folder


def make_safetensors(content: bytes) -> bytes:
    header = b'{"w":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}' % (len(content) // 4, len(content))
    return len(header).to_bytes(8, "little") + header + content


@pytest.fixture
def hub(repos_folder: Path) -> Iterator[str]:
    with serve(make_app(repos_folder)) as address:
        yield address
