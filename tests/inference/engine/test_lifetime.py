"""An engine starts fast, says why it cannot, ends when it is told to, and never outlives its parent."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from inference.engine.server import bind
from tests.inference.engine.conftest import Engine, make_command, start_engine, wait_until

PARENT = """
import subprocess, sys
engine = subprocess.Popen(sys.argv[2:], stdin=None if sys.argv[1] == "shared" else subprocess.PIPE)
print(engine.pid, flush=True)
engine.wait()
"""


def run_engine(tmp_path: Path, *arguments: str, model_path: Path | str) -> subprocess.CompletedProcess[str]:
    """For engines that end by themselves: the pipe stays open meanwhile."""
    reading, writing = os.pipe()
    try:
        command = make_command(tmp_path / "s", *arguments, model_path=model_path)
        return subprocess.run(command, stdin=reading, capture_output=True, text=True, timeout=120, check=False)
    finally:
        os.close(reading)
        os.close(writing)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_socket_answers_long_before_the_model_is_there(model_folder: Path) -> None:
    with start_engine(model_folder, is_ready=False) as engine:
        health = engine.client.get("/health")
        assert health.status_code == 503
        assert health.json()["status"] == "loading"
        assert set(health.json()) == {"status", "stage", "bytes_done", "bytes_total"}
        wait_until(lambda: engine.client.get("/health").json().get("bytes_done"))
        refused = engine.chat("Hello")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_loading")
        assert refused.headers["Retry-After"] == "1"


def test_only_the_owner_can_open_the_socket(engine: Engine) -> None:
    assert stat.S_IMODE(engine.socket.stat().st_mode) == 0o600


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    bind(tmp_path / "s").close()
    bind(tmp_path / "s").close()
    (tmp_path / "file").write_text("not a socket")
    with pytest.raises(OSError, match="in use"):
        bind(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "not a socket"


def test_the_http_side_imports_neither_torch_nor_transformers() -> None:
    heavy = "{'torch', 'transformers'} & set(sys.modules)"
    code = f"import sys, inference.engine.server, inference.engine.worker, inference.engine.standby; print({heavy})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("no folder", "no model folder"),
        ("relative", "absolute path"),
        ("no config", "config.json is missing"),
        ("bad config", "config.json cannot be read"),
        ("unknown kind", "cannot be loaded"),
        ("remote code", "cannot be loaded"),
        ("pickle", "pickle only"),
        ("gguf", "GGUF only"),
        ("no weights", "no weights"),
        ("truncated", "damaged"),
        ("not safetensors", "damaged"),
        ("lacking", "lacks"),
    ],
)
def test_a_model_that_cannot_load_ends_the_engine_with_the_reason(
    copied_folder: Path, tmp_path: Path, damage: str, reason: str
) -> None:
    path = spoil(copied_folder, damage=damage)
    result = run_engine(tmp_path, model_path=path)
    assert result.returncode == 3
    assert reason in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "s").exists()
    assert not (tmp_path / "was-run").exists()


def spoil(folder: Path, *, damage: str) -> Path | str:
    if damage == "relative":
        return "acme/tiny"
    if damage == "no folder":
        return folder / "nowhere"
    SPOILERS[damage](folder)
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def add_code(folder: Path) -> None:
    """What the model's author would like to run leaves a file behind."""
    change_config(folder, model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.M"})
    (folder / "evil.py").write_text(f"open({str(folder.parent / 'was-run')!r}, 'w')")


SPOILERS: dict[str, Callable[[Path], Any]] = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "bad config": lambda folder: (folder / "config.json").write_text("{"),
    "unknown kind": lambda folder: change_config(folder, model_type="nonsense"),
    "remote code": add_code,
    "pickle": lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
    "gguf": lambda folder: (folder / "model.safetensors").rename(folder / "model.gguf"),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "truncated": lambda folder: os.truncate(folder / "model.safetensors", 10_000_000),
    "not safetensors": lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 1000),
    "lacking": lambda folder: change_config(folder, num_hidden_layers=8),
}


def test_a_gpu_that_is_not_there_is_named(model_folder: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("This machine has a GPU.")
    result = run_engine(tmp_path, "--device", "cuda", model_path=model_folder)
    assert result.returncode == 3
    assert "sees no GPU" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_two_seconds_whatever_it_does(small_folder: Path, number: signal.Signals) -> None:
    with start_engine(small_folder) as engine:
        asked = {"prompt": "The captain", "stream": True, "max_tokens": 2000, "temperature": 0}
        with engine.client.stream("POST", "/v1/completions", json=asked) as response:
            lines = response.iter_lines()
            next(lines)
            started = time.monotonic()
            engine.process.send_signal(number)
            rest = [line for line in lines if line]
        assert engine.process.wait(timeout=10) == 0
        assert time.monotonic() - started < 2
        assert "error" in json.loads(rest[-1].removeprefix("data: "))
        assert not engine.socket.exists()


def test_a_signal_ends_it_while_it_loads(model_folder: Path) -> None:
    with start_engine(model_folder, is_ready=False) as engine:
        wait_until(lambda: engine.client.get("/health").status_code == 503)
        started = time.monotonic()
        engine.process.terminate()
        engine.process.wait(timeout=10)
        assert time.monotonic() - started < 2


def test_the_end_of_its_pipe_ends_it(model_folder: Path) -> None:
    with start_engine(model_folder) as engine:
        engine.process.stdin.close()
        assert engine.process.wait(timeout=5) == 0
        assert not engine.socket.exists()


@pytest.mark.parametrize("pipe", ["own", "shared"])
def test_it_is_gone_when_its_parent_is_killed(tmp_path: Path, model_folder: Path, pipe: str) -> None:
    """`shared`: somebody else holds the pipe open, so that only the kernel can tell."""
    command = make_command(tmp_path / "s", model_path=model_folder)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, pipe, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        pid = int(parent.stdout.readline())
        wait_until((tmp_path / "s").exists)
        assert not is_gone(pid)
        parent.kill()
        wait_until(lambda: is_gone(pid), seconds=5)


def test_it_does_not_start_for_a_parent_that_is_not_there(tmp_path: Path, model_folder: Path) -> None:
    result = run_engine(tmp_path, "--parent-pid", "1", model_path=model_folder)
    assert (result.returncode, (tmp_path / "s").exists()) == (0, False)


def test_without_memory_it_tells_its_clients_and_ends(small_folder: Path) -> None:
    with start_engine(small_folder) as engine:
        engine.chat("Hello", max_tokens=2)
        process = psutil.Process(engine.process.pid)
        limit = process.memory_info().vms + 2_000_000
        process.rlimit(psutil.RLIMIT_AS, (limit, limit))
        answer = engine.post("/v1/completions", prompt="The sea " * 800, max_tokens=2)
        assert answer.status_code == 500
        assert "memory did not suffice" in answer.json()["error"]["message"]
        assert engine.process.wait(timeout=10) == 4
        assert "memory did not suffice" in engine.read_errors().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--kv-tokens", "0"], "whole number above 0"),
        (["--device", "tpu"], "none of auto, cpu, cuda"),
        (["--dtype", "int3"], "--dtype"),
    ],
)
def test_words_that_it_does_not_know_are_named(tmp_path: Path, arguments: list[str], reason: str) -> None:
    result = run_engine(tmp_path, *arguments, model_path=tmp_path)
    assert result.returncode == 2
    assert reason in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
