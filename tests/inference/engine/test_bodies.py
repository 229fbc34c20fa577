"""What the engine makes of a body, and that no body makes it crash."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.bodies import BadRequest, read_chat, read_completion

HELLO = [{"role": "user", "content": "Hello"}]
TEXT = st.text(alphabet=st.characters())
"""Halves of surrogate pairs are among them, as in what json.loads makes."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    *("model", "messages", "prompt", "max_tokens", "max_completion_tokens", "n", "stop", "seed", "stream"),
    *("stream_options", "logprobs", "top_logprobs", "temperature", "top_p", "top_k"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty"),
]
MESSAGE = st.dictionaries(st.sampled_from(["role", "content"]), TEXT | JSON)
BODY = st.dictionaries(st.sampled_from(FIELDS), JSON)


def test_a_role_of_developer_is_a_system_message() -> None:
    asked = read_chat({"messages": [{"role": "developer", "content": "Be brief."}, *HELLO]}, model="m")
    assert asked.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"})


def test_text_parts_become_one_text() -> None:
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]
    asked = read_chat({"messages": [{"role": "user", "content": parts}]}, model="m")
    assert asked.messages == ({"role": "user", "content": "One\ntwo"},)


def test_an_answer_without_content_is_an_empty_one() -> None:
    asked = read_chat({"messages": [{"role": "assistant", "content": None}, *HELLO]}, model="m")
    assert asked.messages and asked.messages[0]["content"] == ""


def test_max_completion_tokens_wins_over_max_tokens() -> None:
    assert read_chat({"messages": HELLO, "max_tokens": 5, "max_completion_tokens": 7}, model="m").max_tokens == 7
    assert read_chat({"messages": HELLO, "max_tokens": 5}, model="m").max_tokens == 5
    assert read_chat({"messages": HELLO}, model="m").max_tokens is None


def test_a_stop_may_be_one_string_or_several() -> None:
    assert read_completion({"prompt": "x", "stop": "a"}, model="m").stops == ("a",)
    assert read_completion({"prompt": "x", "stop": ["a", "", "b"]}, model="m").stops == ("a", "b")
    assert read_completion({"prompt": "x", "stop": None}, model="m").stops == ()


def test_logprobs_are_a_switch_in_chats_and_a_number_in_completions() -> None:
    assert read_chat({"messages": HELLO, "logprobs": True, "top_logprobs": 3}, model="m").sampling.top_logprobs == 3
    assert read_chat({"messages": HELLO, "top_logprobs": 3}, model="m").sampling.top_logprobs is None
    assert read_completion({"prompt": "x", "logprobs": 0}, model="m").sampling.top_logprobs == 0


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
        ({"messages": [{"role": "\ud800", "content": "Hello"}]}, "messages[0].role"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": True}, "top_p"),
        ({"n": 0}, "n"),
        ({"seed": 1.5}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"max_tokens": -1}, "max_tokens"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_chat({"messages": HELLO} | change, model="m")
    assert refused.value.param == param
    assert f"`{param}`" in str(refused.value)


@given(JSON | BODY)
def test_any_json_is_read_or_refused(body: Any) -> None:
    for read in (read_chat, read_completion):
        try:
            read(body, model="m")
        except BadRequest as refused:
            assert str(refused)


@given(st.lists(MESSAGE, min_size=1), TEXT, BODY)
def test_what_is_read_can_be_written(messages: list[Any], prompt: str, body: dict[str, Any]) -> None:
    """By a tokenizer, and into an answer."""
    for read, content in ((read_chat, {"messages": messages}), (read_completion, {"prompt": prompt})):
        try:
            asked = read(body | content, model="m")
        except BadRequest:
            continue
        texts = [asked.model, asked.prompt, *(text for each in asked.messages or () for text in each.values())]
        assert "".join(texts).encode().decode() == "".join(texts)
