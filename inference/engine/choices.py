"""The choices of an answer: they submit generations, take their events and turn tokens into text until they end."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace

from inference.engine.backend import Backend, Event, Failed, Finished, Generation, Reason, Token, Tokenizer
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

    def __bool__(self) -> bool:
        return bool(self.text or self.tokens)


@dataclass(frozen=True)
class Ended:
    reason: Reason


class TextAssembler:
    """Joins detokenizer, stop strings and logprobs: the entry of a token is shown when the first of its text is.

    `before`: the tokens of the text that the answer goes on with.
    """

    def __init__(self, tokenizer: Tokenizer, *, stops: Sequence[str], before: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = IncrementalDetokenizer(
            lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)), before=before
        )
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


Part = Piece | Ended


class Choice:
    """`index` counts the choices of one request. All on the event loop."""

    def __init__(self, asked: Asked, *, index: int, generation: Generation, backend: Backend) -> None:
        self.index = index
        self.completion_tokens = 0
        self.has_ended = False
        self._generation = generation
        self._backend = backend
        before = generation.prompt_ids if asked.messages is None else ()
        self._assembler = TextAssembler(backend.get_tokenizer(), stops=asked.stops, before=before)

    def submit(self) -> None:
        self._backend.submit(self._generation)

    def cancel(self) -> None:
        self._backend.cancel(self._generation)

    def take(self, event: Event) -> Iterator[Part]:
        """What is to be shown: pieces with something in them, and in the end one Ended. Raises GenerationFailed."""
        match event:
            case Failed(message):
                raise GenerationFailed(message)
            case Finished(reason):
                yield from self._end(reason)
            case Token() if not self.has_ended:
                self.completion_tokens += 1
                piece = Piece("") if event.is_end else self._assembler.push(event)
                if piece:
                    yield piece
                if self._assembler.has_stopped:
                    self.cancel()
                    yield from self._end("stop")

    def _end(self, reason: Reason) -> Iterator[Part]:
        if not self.has_ended:
            self.has_ended = True
            if piece := self._assembler.flush():
                yield piece
            yield Ended("stop" if self._assembler.has_stopped else reason)


class Answer:
    """All choices of one request, submitted together, and read as they come. Made on the event loop."""

    def __init__(self, asked: Asked, *, prompt_ids: tuple[int, ...], context_length: int, backend: Backend) -> None:
        rest = context_length - len(prompt_ids)
        self._limit = rest if asked.max_tokens is None else min(asked.max_tokens, rest)
        self._prompt_ids = prompt_ids
        self._events: asyncio.Queue[tuple[Choice, Event]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self.choices = [self._make_choice(asked, index=index, backend=backend) for index in range(asked.choices)]

    @property
    def usage(self) -> Usage:
        return Usage(len(self._prompt_ids), sum(choice.completion_tokens for choice in self.choices))

    def submit(self) -> None:
        for choice in self.choices:
            if self._limit:
                choice.submit()
            else:
                self._events.put_nowait((choice, Finished("length")))

    def cancel(self) -> None:
        """For the case that somebody left or failed; what has ended is not touched."""
        for choice in self.choices:
            choice.cancel()

    async def read(self) -> AsyncIterator[tuple[int, Part]]:
        """Parts with the index of their choice, until each has ended. Raises GenerationFailed."""
        while not all(choice.has_ended for choice in self.choices):
            choice, event = await self._events.get()
            for part in choice.take(event):
                yield choice.index, part

    def _make_choice(self, asked: Asked, *, index: int, backend: Backend) -> Choice:
        seed = asked.sampling.seed
        sampling = replace(asked.sampling, seed=None if seed is None else seed + index)
        generation = Generation(self._prompt_ids, self._limit, sampling, lambda event: self._receive(choice, event))
        choice = Choice(asked, index=index, generation=generation, backend=backend)
        return choice

    def _receive(self, choice: Choice, event: Event) -> None:
        """Called on the model thread."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, (choice, event))
