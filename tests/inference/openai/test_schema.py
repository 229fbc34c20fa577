"""What OpenAI's clients send: what is taken, what is refused, and which field is named."""

import json

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParams

from inference.errors import BadRequest
from inference.openai.schema import _FIELDS, parse_chat, parse_completion, parse_keep_alive
from inference.openai.unsupported import _UNSUPPORTED

HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields):
    return parse_chat({"model": "m", "messages": HELLO, **fields})


def test_a_plain_chat_passes_as_it_is() -> None:
    parsed = chat()
    assert (parsed.model, parsed.stream, parsed.keep_alive_seconds) == ("m", False, None)
    assert parsed.body == {"model": "m", "messages": HELLO}


def test_what_clients_always_send_is_taken_and_what_nobody_knows_is_ignored() -> None:
    parsed = chat(
        stream=True,
        stream_options={"include_usage": True},
        max_completion_tokens=10,
        temperature=0.5,
        top_p=1,
        n=1,
        stop="x",
        user="me",
        tools=[],
        tool_choice="none",
        response_format={"type": "text"},
        parallel_tool_calls=True,
        seed=None,
        store=False,
        metadata={"a": "b"},
        modalities=["text"],
        logit_bias={},
        service_tier="auto",
        reasoning_effort="low",
        verbosity="low",
        prediction={"type": "content", "content": "x"},
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        safety_identifier="me",
        functions=[],
        function_call="none",
        audio=None,
        web_search_options=None,
        nobody_knows_this=1,
    )
    assert parsed.stream and parsed.body["stop"] == ["x"] and parsed.body["max_completion_tokens"] == 10
    assert "user" not in parsed.body and "seed" not in parsed.body and "tools" not in parsed.body


def test_content_may_come_in_parts_and_developer_is_a_system_role() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    assert chat(messages=messages).body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "ab"},
    ]


def test_an_assistants_empty_content_is_an_empty_text() -> None:
    assert chat(messages=[{"role": "assistant", "content": None}]).body["messages"][0]["content"] == ""


def test_a_large_number_of_tokens_means_as_many_as_there_can_be() -> None:
    assert chat(max_tokens=10**9).body["max_tokens"] == 10**7


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ["m"]}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "wizard", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": ["text"], "text": "x"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": {}, "text": "x"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x"}] * 10_001}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 10_001}]}, "messages[0].content"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 99}, "n"),
        ({"seed": "x"}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"keep_alive": "soon"}, "keep_alive"),
    ],
)
def test_a_wrong_field_is_named(fields, param) -> None:
    with pytest.raises(BadRequest) as refused:
        chat(**fields)
    assert refused.value.param == param and refused.value.status == 400
    assert param.split(".")[0].split("[")[0] in refused.value.message


@pytest.mark.parametrize("body", [None, [], "x", 5])
def test_a_body_that_is_no_object_is_refused(body) -> None:
    with pytest.raises(BadRequest):
        parse_chat(body)


def test_every_field_of_the_openai_client_is_taken_or_refused_with_its_name() -> None:
    """What its next version adds shows up here, and is looked at."""
    fields = set(ChatParams.__annotations__) | set(CompletionParams.__annotations__) | {"stream"}
    known = {"model", "messages", "prompt", *_FIELDS, *_UNSUPPORTED}
    left_alone = (
        "function_call metadata moderation parallel_tool_calls prediction prompt_cache_key prompt_cache_options "
        "prompt_cache_retention reasoning_effort safety_identifier service_tier store tool_choice user verbosity"
    )
    assert fields - known == set(left_alone.split())


def test_the_engine_always_tells_its_figures_of_a_stream() -> None:
    assert json.loads(chat().order) == chat().body and not chat().wants_usage
    streamed = chat(stream=True, stream_options={"include_usage": False, "include_obfuscation": False})
    assert json.loads(streamed.order)["stream_options"] == {"include_usage": True} and not streamed.wants_usage
    assert chat(stream=True, stream_options={"include_usage": True}).wants_usage


@pytest.mark.parametrize("field", [{"best_of": 3}, {"echo": True}, {"suffix": "x"}])
def test_what_only_completions_could_ask_for_is_refused_by_its_name(field) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_completion({"model": "m", "prompt": "once", **field})
    assert refused.value.param == next(iter(field)) and refused.value.code == "unsupported"
    accepted = parse_completion({"model": "m", "prompt": "once", "best_of": 1, "echo": False, "suffix": ""})
    assert accepted.body["prompt"] == "once"


def test_a_completion_takes_a_text_or_a_list_of_one() -> None:
    assert parse_completion({"model": "m", "prompt": "once"}).body["prompt"] == "once"
    assert parse_completion({"model": "m", "prompt": ["once"], "logprobs": 3}).body["logprobs"] == 3
    for prompt in (None, "", ["a", "b"], [1, 2]):
        with pytest.raises(BadRequest, match="prompt"):
            parse_completion({"model": "m", "prompt": prompt})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("10m", 600), (300, 300), ("300", 300), (0, 0), (-1, -1), ("-1", -1), ("1.5h", 5400), ("200ms", 0.2), (0.5, 0.5)],
)
def test_keep_alive_is_written_as_other_servers_take_it(value, seconds) -> None:
    assert parse_keep_alive("keep_alive", value) == pytest.approx(seconds)
    assert chat(ttl=value).keep_alive_seconds == pytest.approx(seconds)
