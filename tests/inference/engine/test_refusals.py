"""What the engine refuses, and how a failing model looks from outside."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, BadRequestError, InternalServerError, OpenAI

from tests.inference.engine.conftest import UNKNOWN_WORD, Engine, connect, start_engine, user
from tests.inference.engine.failing_engine import CRASHING_WORD


def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        openai.chat.completions.create(model="tiny", messages=user("word " * 900), max_tokens=5)
    body: Any = refused.value.body
    assert (body["code"], body["type"], body["param"]) == (
        "context_length_exceeded",
        "invalid_request_error",
        "messages",
    )
    assert "512 tokens" in body["message"]


def test_a_template_that_refuses_is_a_bad_request(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="not tool"):
        openai.chat.completions.create(
            model="tiny", messages=[{"role": "tool", "content": "x", "tool_call_id": "1"}], max_tokens=5
        )


def test_a_model_without_a_template_points_to_completions(copied_folder: Path) -> None:
    (copied_folder / "chat_template.jinja").unlink()
    with start_engine(copied_folder) as engine:
        answer = engine.chat("Hello")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_chat_template")
        assert "/v1/completions" in answer.json()["error"]["message"]
        assert engine.post("/v1/completions", prompt="", max_tokens=2).status_code == 200


@pytest.mark.parametrize("content", [b"{", b"[]", b"", b'{"messages": 1}', b"[" * 100_000, b"\xff"])
def test_a_body_that_makes_no_sense_is_a_bad_request(engine: Engine, content: bytes) -> None:
    answer = engine.client.post("/v1/chat/completions", content=content)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("is_chat", [True, False])
def test_a_word_without_weights_is_refused_and_harms_nobody(
    engine: Engine, generate_engine: Engine, is_chat: bool
) -> None:
    """A GPU that is asked for weights that are not there fails for all who use it."""
    text = f"What is {UNKNOWN_WORD}?"
    for each in (engine, generate_engine):
        answer = each.chat(text, max_tokens=2) if is_chat else each.post("/v1/completions", prompt=text, max_tokens=2)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "unknown_token")
        assert error["param"] == ("messages" if is_chat else "prompt")
        assert UNKNOWN_WORD in error["message"]


def test_a_failing_model_is_a_server_error_without_a_traceback(failing_engine: Engine) -> None:
    with connect(failing_engine) as openai, pytest.raises(InternalServerError) as failed:
        openai.completions.create(model="tiny", prompt=CRASHING_WORD, max_tokens=5)
    body: Any = failed.value.body
    assert (body["type"], "IndexError" in body["message"], "Traceback" in body["message"]) == (
        "server_error",
        True,
        False,
    )
    assert failing_engine.chat("Hello", max_tokens=2).status_code == 200


def test_a_failing_stream_ends_with_an_error_and_without_done(failing_engine: Engine) -> None:
    *_, last = failing_engine.stream("/v1/chat/completions", messages=user(CRASHING_WORD), max_tokens=5)
    assert json.loads(last)["error"]["type"] == "server_error"


def test_openai_raises_the_error_of_a_failing_stream(failing_engine: Engine) -> None:
    with connect(failing_engine) as openai, pytest.raises(Exception, match="IndexError") as failed:
        list(openai.chat.completions.create(model="tiny", messages=user(CRASHING_WORD), max_tokens=5, stream=True))
    assert not isinstance(failed.value, APIStatusError)


def test_a_failing_request_does_not_harm_those_beside_it(failing_engine: Engine) -> None:
    """Their pages are lost with the step that failed, and they are read again."""
    asked = {"prompt": "The captain", "temperature": 0, "max_tokens": 150}
    wanted = failing_engine.post("/v1/completions", **asked).json()["choices"][0]["text"]
    with failing_engine.client.stream("POST", "/v1/completions", json=asked | {"stream": True}) as response:
        lines = (line for line in response.iter_lines() if line)
        text = read_text(next(lines))
        assert failing_engine.post("/v1/completions", prompt=CRASHING_WORD, max_tokens=5).status_code == 500
        text += "".join(read_text(line) for line in lines)
    assert text == wanted


def read_text(line: str) -> str:
    content = line.removeprefix("data: ")
    return "" if content == "[DONE]" else str(json.loads(content)["choices"][0]["text"])


def test_a_number_of_tokens_beyond_all_measure_is_cut_to_the_context(engine: Engine) -> None:
    answer = engine.post("/v1/completions", prompt="The " * 500, max_tokens=10**9, temperature=0)
    assert answer.json()["usage"]["total_tokens"] <= 512


def test_a_prompt_of_five_megabytes_is_refused_at_once(engine: Engine) -> None:
    started = time.monotonic()
    answer = engine.post("/v1/completions", prompt="word " * 10**6, max_tokens=5)
    assert time.monotonic() - started < 3
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_a_long_list_of_stops_is_fine(engine: Engine) -> None:
    stops = [f"never said {number} " * 20 for number in range(1000)]
    answer = engine.post("/v1/completions", prompt="The sea", stop=stops, max_tokens=20, temperature=0).json()
    wanted = engine.post("/v1/completions", prompt="The sea", max_tokens=20, temperature=0).json()
    assert answer["choices"][0]["text"] == wanted["choices"][0]["text"]
