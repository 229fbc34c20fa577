"""What the records are told of a request: figures and codes, nothing of what was said."""

import time
from datetime import datetime
from typing import Literal

from django.utils import timezone

from inference.openai.schema import Generation
from inference.openai.tally import Tally
from inference.records import Usage, UsageRecorder
from inference.slots import Slot


class Account:
    """Of one request, from its beginning to its end. Whoever has not ended by then has left."""

    def __init__(self, generation: Generation, *, path: str) -> None:
        self._generation = generation
        self._path = path
        self._began: datetime = timezone.now()
        self._began_at = time.monotonic()
        self._loaded_at: float | None = None
        self._was_cold = False
        self._slot: Slot | None = None
        self._status: Literal["ok", "error", "left"] = "left"
        self._error_code = ""
        self._is_closed = False

    def begin(self, slot: Slot) -> None:
        self._slot = slot
        self._was_cold = not slot.is_ready

    def note_loaded(self) -> None:
        self._loaded_at = time.monotonic()

    def note_error(self, code: str) -> None:
        self._status, self._error_code = "error", code

    def note_end(self, tally: Tally) -> None:
        """The engine has said all that it has to say."""
        if tally.is_whole:
            self._status = "ok"
        else:
            self.note_error(tally.error_code or "generation_failed")

    def close(self, tally: Tally, *, records: UsageRecorder) -> None:
        """Writes it down, once. A request that named no model of ours leaves nothing.

        Who hangs up after [DONE], as some clients do, has had all of its answer."""
        if self._slot is not None and not self._is_closed:
            if self._status == "left" and tally.is_whole:
                self._status = "ok"
            self._is_closed = True
            records.note(self._usage(self._slot, tally))

    def _usage(self, slot: Slot, tally: Tally) -> Usage:
        now = time.monotonic()
        first = None if tally.first_at is None else tally.first_at - self._began_at
        tokens = tally.completion_tokens
        return Usage(
            kind="request",
            model_pk=slot.model_pk,
            model_name=slot.model_name,
            started_at=self._began,
            duration_seconds=now - self._began_at,
            status=self._status,
            error_code=self._error_code,
            was_cold=self._was_cold,
            load_seconds=self._load_seconds,
            endpoint=self._path,
            is_streamed=self._generation.stream,
            prompt_tokens=tally.prompt_tokens,
            completion_tokens=tokens,
            first_token_seconds=first,
            tokens_per_second=_rate(tokens, now - tally.first_at) if tally.first_at is not None else None,
            cache_location=slot.located.cache_location if slot.located else "",
            cache_path=slot.located.cache_path if slot.located else "",
        )

    @property
    def _load_seconds(self) -> float | None:
        """What it waited for."""
        return self._loaded_at - self._began_at if self._was_cold and self._loaded_at is not None else None


def _rate(tokens: int | None, seconds: float) -> float | None:
    """Of the tokens after the first."""
    return (tokens - 1) / seconds if tokens and tokens > 1 and seconds > 0 else None
