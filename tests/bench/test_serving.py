"""What decides the benchmark's exit status, and the fake engine that its gateway relays."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import gateway_engine
from bench.gateway_client import Stream, read_all
from bench.serving_bench import interleave
from bench.serving_table import Row
from tests.e2e.server import wait_for


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Path]:
    """The socket of a fake engine, started with the words that the pool uses."""
    path = tmp_path / "engine.sock"
    words = ["0", "-m", "inference.engine", "--socket", str(path), "--model-path", "/nowhere", "--model-name", "fake"]
    with subprocess.Popen([sys.executable, gateway_engine.__file__, *words], stdin=subprocess.PIPE) as process:
        wait_for(path.exists)
        yield path
        process.stdin.close()


def ask(path: Path, request: str, *, body: bytes = b"") -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    head = f"{request} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_a_ratio_of_medians_is_held_against_the_limit() -> None:
    assert Row("tokens/s", [90, 110, 500], [100, 100, 1], at_least=1.1).is_met
    assert not Row("tokens/s", [109, 109, 500], [100, 100, 1], at_least=1.1).is_met
    assert Row("seconds", [0.5], [1.0], at_most=0.5).is_met and not Row("seconds", [0.51], [1.0], at_most=0.5).is_met


def test_a_figure_without_a_peer_is_held_against_the_limit_itself() -> None:
    assert Row("events/s", [20_000], at_least=20_000).is_met and not Row("MB", [9.0], at_most=8.0).is_met
    assert "MISSED" in str(Row("MB", [9.0], at_most=8.0)) and "shown" in str(Row("MB", [9.0]))


def test_rounds_are_interleaved_and_the_first_does_not_count() -> None:
    asked: list[str] = []

    def work(name: str) -> float:
        asked.append(name)
        return len(asked)

    found = interleave({"ours": lambda: work("ours"), "peer": lambda: work("peer")}, rounds=2)
    assert asked == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert found == {"ours": [4, 5], "peer": [3, 6]}


def test_the_client_counts_every_event_of_the_fake_engine(engine: Path) -> None:
    body = json.dumps({"max_tokens": 5000}).encode()
    streams = [Stream(ask(engine, "POST /v1/chat/completions", body=body)) for _ in range(3)]
    assert read_all(streams) == 3, "all were open at once"
    assert [stream.events for stream in streams] == [5000] * 3
    assert all(b"data: [DONE]" in stream.tail for stream in streams)


def test_the_fake_engine_is_healthy_and_moves_on(engine: Path) -> None:
    for path, key in (("/health", "kv_tokens"), ("/status", "steps")):
        with ask(engine, f"GET {path}") as connection, connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and key in json.loads(body)
