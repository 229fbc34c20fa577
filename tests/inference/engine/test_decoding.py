"""Tokens to text: nothing is lost, no character is split, stop strings are cut however the tokens fall."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.decoding import IncrementalDetokenizer, StopMatcher

ALPHABET = "ab\N{LATIN SMALL LETTER E WITH ACUTE}\N{EURO SIGN}\N{GRINNING FACE}\N{ROCKET}"


def decode_bytes(ids: Sequence[int]) -> str:
    """A vocabulary with one token per byte."""
    return bytes(ids).decode(errors="replace")


def stream(detokenizer: IncrementalDetokenizer, ids: Sequence[int]) -> list[str]:
    return [*(detokenizer.push(each) for each in ids), detokenizer.flush()]


@given(st.text())
def test_the_pieces_of_a_text_make_the_text(text: str) -> None:
    pieces = stream(IncrementalDetokenizer(decode_bytes), text.encode())
    assert "".join(pieces) == text


@given(st.text(alphabet=ALPHABET))
def test_a_character_is_never_split(text: str) -> None:
    pieces = stream(IncrementalDetokenizer(decode_bytes), text.encode())
    assert [piece for piece in pieces if piece] == list(text)


@given(st.binary())
def test_bytes_that_are_no_text_come_out_as_the_decoder_has_them(content: bytes) -> None:
    assert "".join(stream(IncrementalDetokenizer(decode_bytes), content)) == decode_bytes(content)


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    pieces = stream(IncrementalDetokenizer(decode_bytes), "a€".encode()[:-1])
    assert pieces == ["a", "", "", "\N{REPLACEMENT CHARACTER}"]


def test_a_token_that_is_written_differently_at_the_start_keeps_its_space() -> None:
    words = ["▁The", "▁sea", "s", "▁"]

    def decode(ids: Sequence[int]) -> str:
        return "".join(words[each] for each in ids).replace("▁", " ").removeprefix(" ")

    assert "".join(stream(IncrementalDetokenizer(decode), [0, 1, 2, 3, 1])) == decode([0, 1, 2, 3, 1])


def test_a_token_without_text_does_not_eat_the_next_space() -> None:
    words = ["▁The", "", "▁sea"]

    def decode(ids: Sequence[int]) -> str:
        return "".join(words[each] for each in ids).replace("▁", " ").removeprefix(" ")

    assert stream(IncrementalDetokenizer(decode), [0, 1, 1, 2]) == ["The", "", "", " sea", ""]


def cut(text: str, *, stops: Sequence[str]) -> str:
    """What should be left: one character at a time, up to the stop string that is complete first."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if stop and text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


def push_all(matcher: StopMatcher, pieces: Sequence[str]) -> str:
    return "".join(matcher.push(piece) for piece in pieces) + matcher.flush()


TEXTS = st.text(alphabet="abc", max_size=20)
STOPS = st.lists(st.text(alphabet="abc", min_size=0, max_size=4), max_size=4)


@given(st.lists(TEXTS), STOPS)
def test_stop_strings_that_span_tokens_are_cut(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    text = "".join(pieces)
    assert push_all(matcher, pieces) == cut(text, stops=stops)
    assert matcher.has_matched == (cut(text, stops=stops) != text)


@given(TEXTS, STOPS)
def test_no_text_is_shown_that_could_begin_a_stop_string(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.push(character) for character in text)
    held = text[len(shown) :]
    if not matcher.has_matched:
        assert held == "" or any(stop.startswith(held) for stop in stops)


@pytest.mark.parametrize(
    ("pieces", "stops", "left"),
    [
        (["Hello ", "wor", "ld"], ["world"], "Hello "),
        (["a", "\n", "\n", "b"], ["\n\n"], "a"),
        (["one", " <", "end", " not"], ["<end>"], "one <end not"),
        (["xabc"], ["ab", "xabc"], "x"),
        (["STOP"], ["STOP"], ""),
        (["abc"], [], "abc"),
    ],
)
def test_the_text_before_a_stop_string_is_left(pieces: list[str], stops: list[str], left: str) -> None:
    assert push_all(StopMatcher(stops), pieces) == left
