"""A small English text, made from words below: enough for a tokenizer to learn real merges from."""

import random
from collections.abc import Iterator

_PEOPLE = """the engineer|a librarian|my neighbour|the captain|an old gardener|the teacher|a quiet student|our doctor
the baker|a young painter|the night watchman|her brother|his grandmother|the violin player|a travelling merchant
the astronomer|a patient carpenter|the fisherman|the shepherd|a famous writer"""
_ACTIONS = """repairs|remembers|describes|carries|discovers|measures|paints|borrows|understands|watches|collects
explains|follows|forgets|protects|builds|translates|counts|answers|imagines|prepares|returns|examines|improves"""
_THINGS = """the broken clock|a letter from the harbour|seven silver coins|the oldest map|a basket of apples
the long winter|a machine that prints books|the garden behind the school|every question about the moon
the bridge over the river|a song without words|the library of models|an empty notebook|the storm of last night
two lanterns and a rope|the smallest telescope|a story about the mountain|the weather of tomorrow|the hidden drive
the memory of the computer|a recipe for bread|the colour of the sea|a promise to a friend|the key to the cellar"""
_PLACES = """in the morning|before sunrise|near the station|under the bridge|with great care|for the first time
behind the kitchen door|at the edge of the forest|while everybody sleeps|after the rain|without any hurry
on the third floor|between two meetings|during the summer holidays|across the frozen lake|because nobody else will
although it is late|in a small town far away|when the lights go out|as quickly as possible"""
_ENDINGS = (".", ".", ".", "!", "?", ", and nobody knows why.", ", which is enough for today.", "; the rest can wait.")
_TALK = """Hello! How can I help you today?
What is the capital of France? The capital of France is Paris.
Please write a short poem about the sea.
I do not know the answer, but I can try to find it.
Yes, of course. Here are three ideas: first, second, third.
1 + 1 = 2, 2 + 3 = 5, 10 - 4 = 6, and 7 * 8 = 56.
Once upon a time there was a small model that lived on a large drive.
You are a helpful assistant. Answer in one sentence.
Thank you very much! You are welcome.
Naïve café, jalapeño, Zürich, Łódź, смотри, こんにちは, 你好, 🙂 🚀 👩‍🚀"""


def make_text(*, sentences: int = 4000, seed: int = 7) -> Iterator[str]:
    """The same lines for the same seed, on every machine."""
    yield from _TALK.splitlines()
    source = random.Random(seed)
    for _ in range(sentences):
        yield _make_sentence(source)


def _make_sentence(source: random.Random) -> str:
    who, does, what, where = (source.choice(_split(words)) for words in (_PEOPLE, _ACTIONS, _THINGS, _PLACES))
    start = f"{where} {who} {does} {what}" if source.random() < 0.3 else f"{who} {does} {what} {where}"
    return start[0].upper() + start[1:] + source.choice(_ENDINGS)


def _split(words: str) -> list[str]:
    return words.replace("\n", "|").split("|")
