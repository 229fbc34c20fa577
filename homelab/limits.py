"""How much one client may have: requests in a minute, and of the streams that stay open, some for all together.

The owner's own requests are not counted, but for their streams. Who may come in at all, the gate has decided before.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from homelab.addresses import sender_of
from homelab.bodies import Application, Body, Message, Receive, Scope, Send, refuse
from homelab.errors import HomelabError

logger = logging.getLogger(__name__)

WRITE_SECONDS = 60.0
"""How long a client may take to read what fills the buffers between us; then it has left."""
_MOST_CLIENTS = 10_000


class TooManyRequests(HomelabError):
    code = "too_many_requests"
    status = 429
    retry_after_seconds = 1


class TooManyStreams(HomelabError):
    code = "too_many_streams"
    status = 503
    retry_after_seconds = 5


# The decision


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many requests a client may still make, as of a moment of the monotonic clock."""

    left: float
    at: float


def take(bucket: Bucket, *, now: float, per_minute: int) -> tuple[Bucket, float]:
    """The bucket afterwards, and the seconds to wait, 0 for a request that may pass. It holds a minute's requests, and
    fills evenly; who is refused takes nothing."""
    left = min(per_minute, bucket.left + (now - bucket.at) * per_minute / 60)
    if left >= 1:
        return Bucket(left - 1, now), 0.0
    return Bucket(left, now), (1 - left) * 60 / per_minute


class Meter:
    """The buckets of the clients, in memory. Of very many those are forgotten that asked least lately."""

    def __init__(self, *, per_minute: int, most_clients: int = _MOST_CLIENTS) -> None:
        self.per_minute = per_minute
        self.most_clients = most_clients
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_of(self, client: str, *, now: float) -> float:
        """Counts a request. The seconds that the client has to wait, 0 when it may pass."""
        before = self._buckets.pop(client, Bucket(self.per_minute, now))
        self._buckets[client], wait_seconds = take(before, now=now, per_minute=self.per_minute)
        if len(self._buckets) > self.most_clients:
            self._buckets.popitem(last=False)
        return wait_seconds


def client_of(scope: Scope) -> str:
    """Its key, else its address."""
    if key := scope.get("homelab.key"):
        return f"key {key.prefix}"
    return sender_of(scope["client"][0]) if scope.get("client") else ""


# The door


class Limits:
    """Wraps an ASGI application, behind the gate. `streams` are the paths whose answers do not end; `is_owner` tells
    whose requests are not counted."""

    def __init__(
        self,
        app: Application,
        *,
        per_minute: int,
        max_streams: int,
        streams: Collection[str],
        is_owner: Callable[[Scope], bool],
    ) -> None:
        self.app = app
        self.meter = Meter(per_minute=per_minute)
        self.max_streams = max_streams
        self.streams = streams
        self.is_owner = is_owner
        self.open_streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            self._count(scope)
        except HomelabError as error:
            return await refuse(error, scope=scope, body=Body(scope, receive), send=send)
        if scope["path"] in self.streams:
            return await self._stream(scope, receive, send)
        await self.app(scope, receive, send)

    def _count(self, scope: Scope) -> None:
        """Raises TooManyRequests, TooManyStreams."""
        wait_seconds = 0.0 if self.is_owner(scope) else self.meter.wait_of(client_of(scope), now=time.monotonic())
        if wait_seconds:
            raise _too_many_requests(self.meter.per_minute, wait_seconds=wait_seconds)
        if scope["path"] in self.streams and self.open_streams >= self.max_streams:
            raise TooManyStreams(f"{self.max_streams} streams are open already. Close one, or try again later.")

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A client that does not read holds a place: after a minute it does not any more."""
        with self._one_more():
            try:
                await self.app(scope, receive, _impatient(send))
            except TimeoutError:
                logger.warning("A client reads nothing of its stream for %g s: it is cut off.", WRITE_SECONDS)

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        self.open_streams += 1
        try:
            yield
        finally:
            self.open_streams -= 1


def _impatient(send: Send) -> Send:
    async def send_soon(message: Message) -> None:
        async with asyncio.timeout(WRITE_SECONDS):
            await send(message)

    return send_soon


def _too_many_requests(per_minute: int, *, wait_seconds: float) -> TooManyRequests:
    error = TooManyRequests(f"{per_minute} requests in a minute are the most from one key or address. Ask less often.")
    error.retry_after_seconds = math.ceil(wait_seconds)
    return error
