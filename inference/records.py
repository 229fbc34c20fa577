"""Writes what happened: requests hand their figures over and go on, and one thread writes them once a second."""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Literal

from django.db import InterfaceError, OperationalError, transaction

from homelab.database import outside_requests
from inference.models import UsageRecord
from registry.models import ModelRegistry

logger = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
BOUND = 10_000  # about 10 MB
_BATCH = 500  # rows in one transaction: nobody who writes waits long
_CLOSE_SECONDS = 2.0
_AWAY = (OperationalError, InterfaceError)  # locked, full, gone: the same rows may be written later


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A request that ended, however it ended, or a load: see UsageRecord. `started_at` with its zone. Nothing of what
    was said, and of an error its code alone."""

    kind: Literal["request", "load"]
    model_pk: int | None
    model_name: str
    started_at: datetime
    duration_seconds: float
    status: Literal["ok", "error", "left"] = "ok"
    error_code: str = ""
    cache_location: str = ""
    cache_path: str = ""
    was_cold: bool = False
    load_seconds: float | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    endpoint: str = ""
    is_streamed: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_seconds: float | None = None
    tokens_per_second: float | None = None

    @property
    def ended_at(self) -> datetime:
        return self.started_at + timedelta(seconds=self.duration_seconds)

    @property
    def is_use(self) -> bool:
        return self.kind == "request" and self.status != "error"


class UsageRecorder:
    """A queue with a bound before the table. While the database does not answer, all up to the bound waits for it; what
    comes after that is dropped, counted, and said in the log."""

    def __init__(self, *, bound: int = BOUND, every_seconds: float = EVERY_SECONDS) -> None:
        self.bound = bound
        self.every_seconds = every_seconds
        self.dropped = 0
        self._dropped_and_said = 0
        self._waiting: list[Usage] = []
        self._lock = threading.Lock()  # held while the list changes, never while somebody writes
        self._writing = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_away = False

    def note(self, usage: Usage) -> None:
        """Takes it, from any thread. Never waits for the database, never raises."""
        with self._lock:
            if len(self._waiting) < self.bound:
                self._waiting.append(usage)
            else:
                self.dropped += 1

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="usage-records", daemon=True)
        self._thread.start()

    def close(self, *, wait_seconds: float = _CLOSE_SECONDS) -> None:
        """Writes what waits. A database that does not answer in that time costs what is left."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(wait_seconds)
        if self._waiting:
            logger.error("%s usage records are lost: the database did not take them", len(self._waiting))

    def flush(self) -> None:
        """Writes now what waits. Where the database is away, it waits on."""
        with self._writing:
            self._say_dropped()
            while batch := self._waiting[:_BATCH]:
                if not self._write(batch):
                    return

    def _run(self) -> None:
        while not self._closing.wait(self.every_seconds):
            outside_requests(self.flush)()
        outside_requests(self.flush)()

    def _write(self, batch: Sequence[Usage]) -> bool:
        try:
            write(batch)
        except _AWAY as error:
            if not self._is_away:  # once for each time that it is
                logger.warning("Usage records wait in memory, the database does not take them: %s", error)
            self._is_away = True
            return False
        self._is_away = False
        with self._lock:
            del self._waiting[: len(batch)]
        return True

    def _say_dropped(self) -> None:
        if news := self.dropped - self._dropped_and_said:
            logger.warning("%s usage records were dropped: %s wait for the database already", news, self.bound)
            self._dropped_and_said += news


def write(batch: Sequence[Usage]) -> None:
    """Writes the rows and adds to the counters of their models, both or neither. A row that cannot be written is left
    out and said in the log. Raises OperationalError or InterfaceError where the database is away."""
    try:
        _write_all(batch)
    except _AWAY:
        raise
    except Exception as error:  # noqa: BLE001  (whatever is wrong with one row, the others are written)
        if len(batch) == 1:
            logger.error("A usage record of %s cannot be written: %s", batch[0].model_name, error)
            return
        middle = len(batch) // 2
        write(batch[:middle])
        write(batch[middle:])


@transaction.atomic
def _write_all(batch: Sequence[Usage]) -> None:
    asked = {usage.model_pk for usage in batch if usage.model_pk is not None}
    known = set(ModelRegistry.objects.filter(pk__in=asked).values_list("pk", flat=True))
    UsageRecord.objects.bulk_create(_row(usage, is_known=usage.model_pk in known) for usage in batch)
    for pk in known:
        _count([usage for usage in batch if usage.model_pk == pk and usage.is_use], pk=pk)


def _row(usage: Usage, *, is_known: bool) -> UsageRecord:
    """A model that was removed meanwhile leaves its name."""
    values = {each.name: getattr(usage, each.name) for each in fields(usage) if each.name != "model_pk"}
    values["stage_seconds"] = dict(usage.stage_seconds)
    return UsageRecord(model_id=usage.model_pk if is_known else None, **values)


def _count(uses: Sequence[Usage], *, pk: int) -> None:
    if uses:
        ModelRegistry.objects.filter(pk=pk).add_uses(
            len(uses),
            last_at=max(usage.ended_at for usage in uses),
            prompt_tokens=sum(usage.prompt_tokens or 0 for usage in uses),
            completion_tokens=sum(usage.completion_tokens or 0 for usage in uses),
        )
