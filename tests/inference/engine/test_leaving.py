"""Who leaves stops the work that was done for him, whatever it was waiting for."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.inference.engine.conftest import Engine, never_end, start_engine, wait_until

LONG: dict[str, Any] = {"prompt": "The captain", "temperature": 0, "max_tokens": 2000}
IDLE = (0, 0)


def send(engine: Engine, **body: Any) -> socket.socket:
    """A request over a connection that can be cut at will."""
    content = json.dumps(body).encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(engine.socket))
    head = f"POST /v1/completions HTTP/1.1\r\nHost: engine\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def expect_idle_soon(engine: Engine) -> None:
    wait_until(lambda: engine.count() == IDLE, seconds=1)


def test_a_client_that_leaves_a_stream_stops_it(slow_engine: Engine) -> None:
    connection = send(slow_engine, stream=True, **LONG)
    received = b""
    while received.count(b"data: ") < 5:
        received += connection.recv(4096)
    assert slow_engine.count() == (1, 0)
    connection.close()
    expect_idle_soon(slow_engine)


def test_a_client_that_leaves_before_the_first_token_stops_it(slow_engine: Engine) -> None:
    connection = send(slow_engine, stream=True, **LONG)
    wait_until(lambda: slow_engine.count()[0])
    connection.close()
    expect_idle_soon(slow_engine)


def test_a_client_that_leaves_a_plain_request_stops_it(slow_engine: Engine) -> None:
    connection = send(slow_engine, **LONG)
    wait_until(lambda: slow_engine.count()[0])
    connection.close()
    expect_idle_soon(slow_engine)


def test_a_client_that_leaves_the_queue_never_starts(slow_engine: Engine) -> None:
    first = [send(slow_engine, stream=True, **LONG) for _ in range(2)]
    wait_until(lambda: slow_engine.count() == (2, 0))
    waiting = [send(slow_engine, stream=is_streamed, **LONG) for is_streamed in (True, False)]
    wait_until(lambda: slow_engine.count() == (2, 2))
    for connection in waiting:
        connection.close()
    wait_until(lambda: slow_engine.count() == (2, 0), seconds=1)
    for connection in first:
        connection.close()
    expect_idle_soon(slow_engine)


def test_a_client_that_leaves_while_a_long_prompt_is_read_stops_it(slow_engine: Engine) -> None:
    """Its prompt is read in several steps, between those of another's answer."""
    other = send(slow_engine, stream=True, **LONG)
    wait_until(lambda: slow_engine.count() == (1, 0))
    connection = send(slow_engine, stream=True, prompt="The sea " * 900, max_tokens=100)
    wait_until(lambda: slow_engine.count() == (2, 0))
    connection.close()
    wait_until(lambda: slow_engine.count() == (1, 0), seconds=1)
    other.close()
    expect_idle_soon(slow_engine)


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_client_that_leaves_generate_while_it_reads_a_long_prompt_stops_it(
    patient_engine: Engine, is_streamed: bool
) -> None:
    """Which it does in one pass of some seconds, and shows all the time that it goes on."""
    connection = send(patient_engine, stream=is_streamed, prompt="The sea " * 2500, max_tokens=5)
    wait_until(lambda: patient_engine.count() == (1, 0))
    first = count_steps(patient_engine)
    wait_until(lambda: count_steps(patient_engine) > first)
    connection.close()
    expect_idle_soon(patient_engine)
    answer = patient_engine.post("/v1/completions", prompt="The sea", max_tokens=3, temperature=0)
    assert answer.json()["usage"]["completion_tokens"] == 3


def test_a_client_that_leaves_generate_in_the_middle_of_an_answer_stops_it(patient_engine: Engine) -> None:
    connection = send(patient_engine, stream=True, **LONG)
    received = b""
    while received.count(b"data: ") < 5:
        received += connection.recv(4096)
    connection.close()
    expect_idle_soon(patient_engine)


def count_steps(engine: Engine) -> int:
    return int(engine.client.get("/status").json()["steps"])


@pytest.fixture(scope="module")
def patient_engine(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """For so long a context that a small model takes seconds to read it, one layer after the other."""
    folder = Path(shutil.copytree(model_folder, tmp_path_factory.mktemp("patient") / "model"))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 10_000}))
    with start_engine(never_end(folder), "--backend", "generate") as engine:
        yield engine


def test_all_choices_of_a_client_that_leaves_are_stopped(slow_engine: Engine) -> None:
    connection = send(slow_engine, stream=True, n=4, **LONG)
    wait_until(lambda: slow_engine.count() == (2, 2))
    connection.close()
    expect_idle_soon(slow_engine)


def test_a_stop_string_frees_the_engine_for_the_next(slow_engine: Engine) -> None:
    whole = slow_engine.post("/v1/completions", **(LONG | {"max_tokens": 30})).json()["choices"][0]["text"]
    answer = slow_engine.post("/v1/completions", stop=whole[10:14], **LONG).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    expect_idle_soon(slow_engine)


def test_requests_start_in_the_order_of_their_arrival(slow_engine: Engine) -> None:
    order: list[int] = []

    def ask(number: int) -> None:
        slow_engine.post("/v1/completions", **(LONG | {"max_tokens": 12}))
        order.append(number)

    blockers = [send(slow_engine, stream=True, **LONG) for _ in range(2)]
    wait_until(lambda: slow_engine.count() == (2, 0))
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for number, thread in enumerate(threads, start=1):
        thread.start()
        wait_until(lambda number=number: slow_engine.count()[1] == number)
    blockers.pop().close()  # the other one goes on: one after the other gets the place beside it
    for thread in threads:
        thread.join(timeout=60)
    assert order == [0, 1, 2, 3]
    blockers.pop().close()
    expect_idle_soon(slow_engine)


def test_steps_grow_as_long_as_there_is_progress(slow_engine: Engine, generate_engine: Engine) -> None:
    for engine in (slow_engine, generate_engine):
        before = engine.client.get("/status").json()
        assert before == {"active": 0, "queued": 0, "steps": before["steps"], "idle": True}
        engine.post("/v1/completions", prompt="The sea", max_tokens=5, temperature=0)
        assert engine.client.get("/status").json()["steps"] >= before["steps"] + 5


def test_health_and_status_answer_while_the_model_works(slow_engine: Engine) -> None:
    connection = send(slow_engine, stream=True, **LONG)
    wait_until(lambda: slow_engine.count()[0])
    started = time.monotonic()
    assert slow_engine.client.get("/health").status_code == 200
    assert time.monotonic() - started < 1
    connection.close()
    expect_idle_soon(slow_engine)
