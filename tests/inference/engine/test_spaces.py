"""Spaces that belong to the word behind them, which some tokenizers leave out at the start of a text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.backend import Token, TokenLogprobs
from inference.engine.choices import Piece, TextAssembler
from inference.engine.vocabulary import describe_token
from tests.inference.engine.conftest import start_engine
from tests.inference.engine.metaspace import NO_WORDS, make_metaspace

TOKENIZER = make_metaspace()
TEXTS = [
    "The sea is blue",
    "The sea is caf\u00e9",
    "The",
    "\u00e9\u20ac\U0001f642",
    "\u00e9\U0001f642\U0001f642\U0001f642",
    "\U0001f642\U0001f642 and a map",
]


def encode(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def answer(ids: Sequence[int], *, before: Sequence[int] = ()) -> list[Piece]:
    assembler = TextAssembler(TOKENIZER, stops=(), before=before)
    return [*(assembler.push(Token(each, logprobs=TokenLogprobs(-1.0))) for each in ids), assembler.flush()]


def read(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("text", TEXTS)
def test_a_completion_goes_on_where_the_prompt_ended_wherever_that_was(text: str) -> None:
    ids = encode(text)
    for cut in range(1, len(ids)):
        prompt = TOKENIZER.decode(ids[:cut])
        if prompt.endswith("\N{REPLACEMENT CHARACTER}"):
            continue
        assert prompt + read(answer(ids[cut:], before=ids[:cut])) == text


@given(
    st.lists(st.sampled_from(["sea", "\u00e9", "\U0001f642", "\u00e9\u20ac\U0001f642", "w7"]), min_size=2, max_size=9),
    st.data(),
)
def test_a_completion_adds_up_with_its_prompt(words: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(words) - 1))
    ids, prompt = encode(" ".join(words)), encode(" ".join(words[:cut]))
    assert " ".join(words[:cut]) + read(answer(ids[len(prompt) :], before=prompt)) == " ".join(words)


def test_an_answer_that_goes_on_with_nothing_begins_without_a_space() -> None:
    assert read(answer(encode("The sea is blue"))) == "The sea is blue"


def test_the_text_of_a_token_has_its_space() -> None:
    for text in (" is", " blue"):
        (token_id,) = encode(text.strip())
        entry = describe_token(
            token_id, tokenizer=TOKENIZER, logprobs=TokenLogprobs(-1.0, ((token_id, -1.0),)), offset=0
        )
        assert (entry.text, entry.token_bytes, entry.top[0].text) == (text, text.encode(), text)


def test_the_tokens_of_a_completion_make_its_text() -> None:
    pieces = answer(encode("The sea is blue")[2:], before=encode("The sea"))
    assert "".join(token.text for piece in pieces for token in piece.tokens) == read(pieces) == " is blue"
    assert [token.offset for piece in pieces for token in piece.tokens] == [0, 3]


def test_a_token_is_decoded_once_however_often_it_is_told() -> None:
    """With 20 alternatives each, the event loop would have no time for anything else."""
    tokenizer = CountingTokenizer()
    logprobs = TokenLogprobs(-1.0, tuple((each, -2.0) for each in range(300, 320)))
    entries = [describe_token(310, tokenizer=tokenizer, logprobs=logprobs, offset=0) for _ in range(50)]
    assert tokenizer.decoded <= 2 * 20
    assert all(entry == entries[0] for entry in entries)
    assert [each.text for each in entries[0].top] == [
        TOKENIZER.decode([300, each])[len(TOKENIZER.decode([300])) :] for each in range(300, 320)
    ]


class CountingTokenizer:
    def __init__(self) -> None:
        self.decoded = 0

    def decode(self, ids: Sequence[int], **how: Any) -> str:
        self.decoded += 1
        return str(TOKENIZER.decode(ids, **how))

    def convert_ids_to_tokens(self, token_id: int) -> str:
        return str(TOKENIZER.convert_ids_to_tokens(token_id))


def test_a_byte_is_told_as_a_byte() -> None:
    *_, last = encode("\u00e9")
    entry = describe_token(last, tokenizer=TOKENIZER, logprobs=TokenLogprobs(-1.0), offset=0)
    assert (entry.text, entry.token_bytes) == ("\N{REPLACEMENT CHARACTER}", "\u00e9".encode()[1:])


def test_an_engine_says_what_transformers_says_with_its_spaces(copied_folder: Path) -> None:
    """Of words alone, so that what it said is known from what it showed."""
    tokenizer = make_metaspace(copied_folder)
    path = copied_folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"suppress_tokens": list(range(NO_WORDS))}))
    asked: dict[str, Any] = {"prompt": "The sea", "temperature": 0, "max_tokens": 12, "logprobs": 0}
    with start_engine(copied_folder) as engine:
        choice = engine.post("/v1/completions", **asked).json()["choices"][0]
        *events, _ = engine.stream("/v1/completions", **asked)
        chat = engine.chat("The sea", temperature=0, max_tokens=12).json()["choices"][0]["message"]["content"]
    ids = [encode(name.strip())[0] for name in choice["logprobs"]["tokens"]]
    assert "The sea" + choice["text"] == tokenizer.decode([*encode("The sea"), *ids])
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == choice["text"]
    assert " " + chat == choice["text"]
