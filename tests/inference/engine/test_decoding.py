"""Tokens to text: nothing is lost, no character is split, stop strings are cut however the tokens fall."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

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


@given(st.text(alphabet=ALPHABET), st.lists(st.integers(1, 6)))
def test_tokens_that_begin_and_end_within_characters_make_the_text(text: str, sizes: list[int]) -> None:
    """However many of them follow on each other."""
    content = text.encode()
    starts = [*accumulate([0, *sizes, *[3] * len(content)])]
    chunks = [content[start:end] for start, end in pairwise(starts)]

    def decode(ids: Sequence[int]) -> str:
        return b"".join(chunks[each] for each in ids).decode(errors="replace")

    pieces = stream(IncrementalDetokenizer(decode), range(len(chunks)))
    assert "".join(pieces) == text


@given(st.text(alphabet=ALPHABET), st.text(alphabet=ALPHABET))
def test_a_text_goes_on_after_what_was_before_it(before: str, text: str) -> None:
    detokenizer = IncrementalDetokenizer(decode_bytes, before=list(before.encode()))
    assert "".join(stream(detokenizer, text.encode())) == text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([b"\xff"], True),
        ([b"\xe2"], True),
        ([b"\xf0", b"\x9f", b"\x98"], True),
        ([b"\x82\xac\xe2"], True),
        ([b""], False),
        ([b"a", b"", b"", b"", b"", b"", b""], True),
        ([b"\xe2", b"", b"", b"", b"", b"", b""], True),
    ],
)
def test_what_never_becomes_a_character_is_shown_soon_and_decoded_in_small_parts(
    words: list[bytes], shown: bool
) -> None:
    most = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal most
        most = max(most, len(ids))
        return b"".join(words[each] for each in ids).decode(errors="replace")

    ids = [number % len(words) for number in range(500)]
    detokenizer = IncrementalDetokenizer(decode)
    pieces = [detokenizer.push(each) for each in ids]
    assert most < 16
    assert all(any(pieces[start : start + 12]) for start in range(0, 480, 12)) == shown
    whole = decode(ids)
    assert len(whole) - 6 <= len("".join(pieces)) <= len(whole)


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
