"""The ASGI application: the gate, then the limits, the engine pool's life, the gateway's door, and then the bodies for
Django (which knows no limits and no lifespan)."""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Protocol, cast

from django.conf import settings
from django.core.asgi import get_asgi_application

from homelab.gate import Application, Gate, House, Proxies, Receive, Scope, Send

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 3
EVENT_STREAMS = frozenset({"/api/jobs/events", "/api/ps/events"})


class Pool(Protocol):
    """What the web process asks of the engine pool."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class PoolLife:
    """Starts a pool with the server, closes it with the server, and lends it to requests as `scope["state"]["pool"]`.

    A pool that does not start stops the server's start; one that does not close within `close_seconds` is left
    behind, because its engines die with this process anyway.
    """

    def __init__(
        self, app: Application, *, make_pool: Callable[[], Pool], close_seconds: float = CLOSE_SECONDS
    ) -> None:
        self.app = app
        self.make_pool = make_pool
        self.close_seconds = close_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            pool = self.make_pool()
            await pool.start()
        except Exception as error:  # whatever it is, the server must hear of it in the protocol's own words
            logger.exception("The engine pool cannot start.")
            await send({"type": "lifespan.startup.failed", "message": f"The engine pool cannot start: {error}"})
            return
        scope.setdefault("state", {})["pool"] = pool
        try:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        finally:
            await self._close(pool)
        await send({"type": "lifespan.shutdown.complete"})

    async def _close(self, pool: Pool) -> None:
        try:
            async with asyncio.timeout(self.close_seconds):
                await pool.close()
        except TimeoutError:
            logger.warning(
                "The engine pool did not close within %s seconds; its engines are ended.", self.close_seconds
            )


def _make_pool() -> Pool:
    # The pool's modules import Django models, which exist only after get_asgi_application().
    from inference.pool import EnginePool

    pool: Pool = EnginePool.from_settings()
    return pool


def _limited(app: Application) -> Application:
    from homelab.limits import Limits

    return Limits(
        app,
        per_minute=settings.REQUESTS_PER_MINUTE,
        max_streams=settings.MAX_EVENT_STREAMS,
        streams=EVENT_STREAMS,
        is_owner=lambda scope: bool(scope["homelab.local"]),
    )


def make_application() -> Gate:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "homelab.settings")
    # Django types its handler for dicts; ASGI allows any mapping, and every server sends a dict.
    django_application = cast(Application, get_asgi_application())
    from access.doorman import Doorman  # these modules, too, want Django to be set up
    from homelab.bodies import Bodies
    from inference.openai.door import Door

    living = PoolLife(Door(Bodies(django_application)), make_pool=_make_pool)
    return Gate(
        _limited(living),
        port=settings.PORT,
        doorman=Doorman(),
        house=House(
            names=frozenset(settings.OWN_NAMES),
            trusts_local=settings.LOCAL_TRUST,
            wants_https=settings.HTTPS,
        ),
        proxies=Proxies(settings.TRUSTED_PROXIES),
    )


application = make_application()
