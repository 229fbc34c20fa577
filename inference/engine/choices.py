"""One choice of an answer: it submits a generation, reads its events and turns tokens into text until it ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from inference.engine.backend import Backend, Event, Failed, Finished, Generation, Token, Tokenizer
from inference.engine.bodies import Asked
from inference.engine.decoding import IncrementalDetokenizer, StopMatcher
from inference.engine.protocol import TokenText, Usage
from inference.engine.vocabulary import describe_token


class GenerationFailed(Exception):
    """The message is a sentence for the client."""


@dataclass(frozen=True)
class Piece:
    """Text to show now, and the tokens that it came from (with logprobs only)."""

    text: str
    tokens: tuple[TokenText, ...] = ()


@dataclass(frozen=True)
class Ended:
    reason: Literal["stop", "length"]


class TextAssembler:
    """Joins detokenizer, stop strings and logprobs: the entry of a token is shown when the first of its text is."""

    def __init__(self, tokenizer: Tokenizer, *, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = IncrementalDetokenizer(lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)))
        self._matcher = StopMatcher(stops)
        self._waiting: list[TokenText] = []
        self._shown_characters = 0
        self._decoded_characters = 0

    @property
    def has_stopped(self) -> bool:
        return self._matcher.has_matched

    def push(self, token: Token) -> Piece:
        if token.logprobs:
            offset = self._decoded_characters
            entry = describe_token(token.id, tokenizer=self._tokenizer, logprobs=token.logprobs, offset=offset)
            self._waiting.append(entry)
        decoded = self._detokenizer.push(token.id)
        self._decoded_characters += len(decoded)
        return self._show(self._matcher.push(decoded))

    def flush(self) -> Piece:
        """The rest, at the end; after a stop string there is none."""
        if self.has_stopped:
            return Piece("")
        text = self._matcher.push(self._detokenizer.flush())
        text += self._matcher.flush()
        shown = self._show(text).tokens
        rest = () if self._matcher.has_matched else tuple(self._waiting)
        return Piece(text, tokens=shown + rest)

    def _show(self, text: str) -> Piece:
        self._shown_characters += len(text)
        shown = tuple(entry for entry in self._waiting if entry.offset < self._shown_characters)
        self._waiting = self._waiting[len(shown) :]
        return Piece(text, tokens=shown)


class Choice:
    """Made on the event loop; `index` counts the choices of one request."""

    def __init__(self, asked: Asked, *, index: int, prompt_ids: tuple[int, ...], limit: int, backend: Backend) -> None:
        seed = asked.sampling.seed
        sampling = replace(asked.sampling, seed=None if seed is None else seed + index)
        self.index = index
        self.completion_tokens = 0
        self._backend = backend
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._assembler = TextAssembler(backend.get_tokenizer(), stops=asked.stops)
        self.generation = Generation(prompt_ids, limit, sampling, self._receive)

    def submit(self) -> None:
        if self.generation.max_new_tokens == 0:
            self._events.put_nowait(Finished("length"))
        else:
            self._backend.submit(self.generation)

    def cancel(self) -> None:
        self._backend.cancel(self.generation)

    async def read(self) -> AsyncIterator[Piece | Ended]:
        """Pieces with something in them, then one Ended. Raises GenerationFailed."""
        while True:
            match await self._events.get():
                case Failed(message):
                    raise GenerationFailed(message)
                case Finished(reason):
                    break
                case Token() as token if piece := self._push(token):
                    yield piece
            if self._assembler.has_stopped:
                self.cancel()
                break
        if (piece := self._assembler.flush()).text or piece.tokens:
            yield piece
        yield Ended("stop" if self._assembler.has_stopped else reason)

    def _push(self, token: Token) -> Piece | None:
        self.completion_tokens += 1
        piece = Piece("") if token.is_end else self._assembler.push(token)
        return piece if piece.text or piece.tokens else None

    def _receive(self, event: Event) -> None:
        """Called on the model thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)


class Answer:
    """All choices of one request, submitted together and read one after the other."""

    def __init__(self, asked: Asked, *, prompt_ids: tuple[int, ...], context_length: int, backend: Backend) -> None:
        rest = context_length - len(prompt_ids)
        limit = rest if asked.max_tokens is None else min(asked.max_tokens, rest)
        self._prompt_tokens = len(prompt_ids)
        self.choices = [
            Choice(asked, index=index, prompt_ids=prompt_ids, limit=limit, backend=backend)
            for index in range(asked.choices)
        ]

    @property
    def usage(self) -> Usage:
        return Usage(self._prompt_tokens, sum(choice.completion_tokens for choice in self.choices))

    def submit(self) -> None:
        for choice in self.choices:
            choice.submit()

    def cancel(self) -> None:
        """For the case that somebody left or failed; what has ended is not touched."""
        for choice in self.choices:
            choice.cancel()
