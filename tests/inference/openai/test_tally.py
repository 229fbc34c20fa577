"""Counting a stream as it passes: no byte of the answer is touched, however it is cut into parts."""

import json

import pytest

from inference.engine.protocol import DONE, Envelope, Usage, make_event
from inference.openai.schema import parse_chat
from inference.openai.tally import Tally

TRICKY = 'He said "choices":[] and ,"usage":null} and "role":"assistant"\n\ndata: [DONE]\n\n'


def tally(*, wants_usage: bool = False) -> Tally:
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    messages = [{"role": "user", "content": "x"}]
    return Tally(parse_chat({"model": "m", "messages": messages, "stream": True, **options}))


def make_stream(*, usage: bool) -> list[bytes]:
    envelope = Envelope(model="m", is_chat=True, has_usage_chunk=usage, unique="u", created=1)
    events = [make_event(envelope.make_role_chunk(index=0))]
    events += [make_event(envelope.make_text_chunk(text, index=0, logprobs=())) for text in ("a", TRICKY, "b")]
    events.append(make_event(envelope.make_last_chunk(index=0, reason="stop")))
    return [*events, *([make_event(envelope.make_usage_chunk(Usage(7, 3)))] if usage else []), DONE]


@pytest.mark.parametrize("together", [1, 2, 3, 9])
@pytest.mark.parametrize("wants_usage", [True, False])
def test_the_client_gets_what_it_asked_for_and_the_records_get_their_figures(wants_usage, together) -> None:
    events, counted = make_stream(usage=True), tally(wants_usage=wants_usage)
    parts = [b"".join(events[at : at + together]) for at in range(0, len(events), together)]
    assert counted.first_at is None
    shown = b"".join(counted.take(part) for part in parts)
    assert shown == b"".join(make_stream(usage=wants_usage))
    assert (counted.prompt_tokens, counted.completion_tokens, counted.is_whole) == (7, 3, True)


def test_the_first_token_is_not_the_role() -> None:
    role, first, *_ = make_stream(usage=False)
    counted = tally()
    counted.take(role)
    assert counted.first_at is None
    counted.take(first)
    assert counted.first_at is not None


def test_an_answer_that_was_cut_off_is_counted_by_its_events() -> None:
    counted = tally()
    counted.take(b"".join(make_stream(usage=True)[:3]))
    assert (counted.completion_tokens, counted.prompt_tokens, counted.is_whole) == (2, None, False)


def test_an_answer_that_is_no_stream_is_counted_too() -> None:
    counted = tally()
    counted.take_body(json.dumps({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 5}}).encode())
    assert (counted.prompt_tokens, counted.completion_tokens, counted.is_whole) == (2, 5, True)
    counted.take_body(b'{"error": {"code": "context_length_exceeded"}}')
    assert (counted.error_code, counted.is_whole) == ("context_length_exceeded", False)
    counted.take_body(b"no json")
    assert counted.completion_tokens is None


def test_an_error_is_no_token_and_its_code_is_kept() -> None:
    counted, role = tally(), make_stream(usage=False)[0]
    counted.take(role + b'data: {"error": {"code": "engine_died"}}\n\n')
    assert (counted.first_at, counted.completion_tokens, counted.error_code) == (None, None, "engine_died")
