"""The valid keys in memory: a request with a key costs no query."""

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, transaction
from django.db.models.signals import post_save
from django.utils import timezone

from access.models import ApiKey
from access.services import note_use
from homelab.database import outside_requests

logger = logging.getLogger(__name__)

LIFE_SECONDS = 2.0
"""Other processes revoke keys too (manage.py, a second server): for so long a revoked one may still open."""
NOTE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class KnownKey:
    pk: int
    prefix: str
    name: str
    scope: str
    hashed_key: str = field(repr=False)
    expires_at: datetime | None

    def fits(self, text: str) -> bool:
        is_alive = self.expires_at is None or self.expires_at > timezone.now()
        return is_alive and bool(ApiKey.objects.key_generator.verify(text, self.hashed_key))


class Keyring:
    """Belongs to one event loop. All valid keys are read together, so a wrong key costs no query of its own either."""

    def __init__(self) -> None:
        self._keys: dict[str, KnownKey] = {}
        self._read_at = -math.inf
        self._reading = asyncio.Lock()
        self._noted_at: dict[int, float] = {}
        self._notes: set[asyncio.Task[None]] = set()
        post_save.connect(self._follow_change, sender=ApiKey)

    async def find(self, text: str) -> KnownKey | None:
        """The key, if it is valid now. Raises DatabaseError."""
        async with self._reading:
            if time.monotonic() - self._read_at > LIFE_SECONDS:
                await self._read()
        known = self._keys.get(text.partition(".")[0])
        if known is None or not known.fits(text):
            return None
        self._note(known)
        return known

    async def _read(self) -> None:
        began_at = time.monotonic()
        self._keys = await sync_to_async(outside_requests(_read_usable), thread_sensitive=False)()
        self._read_at = began_at

    def _follow_change(self, **_: Any) -> None:
        transaction.on_commit(self._forget)

    def _forget(self) -> None:
        self._read_at = -math.inf

    # Last use

    def _note(self, known: KnownKey) -> None:
        """Once a minute for each key, and nobody waits for it."""
        now = time.monotonic()
        if now - self._noted_at.get(known.pk, -math.inf) < NOTE_SECONDS:
            return
        self._noted_at[known.pk] = now
        note = asyncio.ensure_future(_write_note(known))
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)


def _read_usable() -> dict[str, KnownKey]:
    columns = ("pk", "prefix", "name", "scope", "hashed_key", "expiry_date")
    return {row[1]: KnownKey(*row) for row in ApiKey.objects.usable().values_list(*columns)}


async def _write_note(known: KnownKey) -> None:
    try:
        await sync_to_async(outside_requests(note_use), thread_sensitive=False)(known.pk)
    except DatabaseError as error:
        logger.warning("The last use of the key %s could not be written down: %s", known.prefix, error)
