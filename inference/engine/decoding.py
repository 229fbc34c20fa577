"""From tokens to text, pure: characters are never split, and stop strings are cut out wherever tokens begin and end."""

from collections.abc import Callable, Sequence
from itertools import takewhile

Decode = Callable[[Sequence[int]], str]

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_CHARACTER_TOKENS = 4  # no character has more bytes


class IncrementalDetokenizer:
    """Tokens in, text out. Bytes that may still become a character wait for the next token.

    Decodes from the last piece that was given out, because a tokenizer may write a token differently at the start.
    `before`: the tokens of the text that goes on here, if one does.
    """

    def __init__(self, decode: Decode, *, before: Sequence[int] = ()) -> None:
        self._decode = decode
        self._ids = _take_end(before, decode=decode)
        self._shown_text = decode(self._ids)
        self._shown_ids = len(self._ids)

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        text = self._decode(self._ids)
        if not text.endswith(_INCOMPLETE):
            return self._advance(text)
        if len(self._ids) - self._shown_ids <= _CHARACTER_TOKENS:
            return ""
        return self._give_up(text)

    def flush(self) -> str:
        """What still waits at the end; bytes that make no character come out as U+FFFD."""
        return self._advance(self._decode(self._ids))

    def _advance(self, text: str) -> str:
        piece = text[len(self._shown_text) :]
        if piece:
            self._ids = self._ids[self._shown_ids :]
            self._shown_ids = len(self._ids)
            self._shown_text = self._decode(self._ids)
        else:  # no number of tokens without text is worth more than a few
            del self._ids[self._shown_ids : -_CHARACTER_TOKENS]
        return piece

    def _give_up(self, text: str) -> str:
        """So many tokens are no one character: only what the last ones say may still change."""
        rest = text[len(self._shown_text) :]
        self._ids = self._ids[1 - _CHARACTER_TOKENS :]
        end = self._decode(self._ids)
        waiting = _count_common_end(rest, end)
        self._shown_ids = 0
        self._shown_text = end[: len(end) - waiting]
        return rest[: len(rest) - waiting]


def _take_end(ids: Sequence[int], *, decode: Decode) -> list[int]:
    """The last few, and more if these begin or end within a character."""
    count = _CHARACTER_TOKENS
    while count < len(ids) and decode(ids[-count:]).endswith(_INCOMPLETE):
        count *= 2
    return list(ids[-count:])


def _count_common_end(first: str, second: str) -> int:
    pairs = zip(reversed(first), reversed(second), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class StopMatcher:
    """Text in, text out, up to the stop string that is complete first (of two that end together, the longer one).

    Text that may be the start of a stop string is held back. How the text is cut into pieces makes no difference.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.has_matched = False

    def push(self, text: str) -> str:
        if self.has_matched:
            return ""
        text = self._held + text
        start = self._find(text)
        self.has_matched = start is not None
        keep = start if start is not None else len(text) - self._count_possible_start(text)
        self._held = "" if self.has_matched else text[keep:]
        return text[:keep]

    def flush(self) -> str:
        """What was held back, now that no more text comes."""
        text, self._held = self._held, ""
        return text

    def _find(self, text: str) -> int | None:
        found = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _count_possible_start(self, text: str) -> int:
        """The length of the longest end of the text that a stop string starts with."""
        longest = min(len(text), max((len(stop) for stop in self._stops), default=0))
        return next((n for n in range(longest, 0, -1) if any(stop.startswith(text[-n:]) for stop in self._stops)), 0)
