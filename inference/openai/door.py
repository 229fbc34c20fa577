"""Chats and completions, answered before Django: what a request costs comes on top of each first token.

Django's middleware takes some five milliseconds, for sessions and pages that nobody has here. Whoever is one too many
is refused before anything is spent on it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError

from homelab.bodies import Application, CallerLeft, Receive, Scope, Send
from homelab.database import outside_requests
from homelab.errors import HomelabError
from homelab.owner import acts_as_owner, may_call
from inference.openai.caller import Caller
from inference.openai.errors import DATABASE_AWAY, DatabaseAway, MethodNotAllowed
from inference.openai.relay import Exchange
from inference.openai.schema import Generation, parse_chat, parse_completion
from inference.pool import EnginePool

logger = logging.getLogger(__name__)

PARSERS: dict[str, Callable[[Any], Generation]] = {
    "/v1/chat/completions": parse_chat,
    "/v1/completions": parse_completion,
}
_INTERNAL = "The server made a mistake that it did not expect. Its log has the details."


class Door:
    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pool = scope.get("state", {}).get("pool")
        if pool is None or scope.get("path") not in PARSERS:
            await self.app(scope, receive, send)
            return
        caller = Caller(scope, receive, send)
        try:
            await self._let_in(caller, pool)
        except CallerLeft:
            return
        except HomelabError as error:
            await caller.refuse(error)
        except DatabaseError:
            logger.exception("The database failed in %s", scope["path"])
            await caller.refuse(DatabaseAway(DATABASE_AWAY))
        except Exception:
            logger.exception("Unexpected error in %s", scope["path"])
            await caller.refuse(HomelabError(_INTERNAL))

    async def _let_in(self, caller: Caller, pool: EnginePool) -> None:
        path = caller.scope["path"]
        if caller.scope["method"] != "POST":
            raise MethodNotAllowed(f"{path} does not answer {caller.scope['method']}.")
        with pool.turnstile.passed():
            await asyncio.sleep(0)  # whoever is refused in this moment hears of it first
            if not acts_as_owner(caller):
                await sync_to_async(outside_requests(may_call))(caller.scope)
            exchange = Exchange(pool, PARSERS[path](await caller.read_json()), path=path)
            try:
                await _work_while_connected(_respond(exchange, caller), caller)
            finally:
                await exchange.close()


async def _respond(exchange: Exchange, caller: Caller) -> None:
    """A quick refusal gets its true status; what takes longer begins to stream, and says later what happened."""
    if exchange.generation.stream:
        await exchange.wait_for_outcome()
        if not exchange.open().done() or await exchange.has_begun():
            return await caller.stream(exchange.events())
    status, body = await exchange.read_body()
    await exchange.close()
    await caller.answer(body, status=status, headers=_headers_for(status))


def _headers_for(status: int) -> dict[str, str]:
    """Of an engine's own answer: what it refuses, or fails at, it will again."""
    return {} if status == 200 else {"x-should-retry": "false"}


async def _work_while_connected(work: Coroutine[Any, Any, None], caller: Caller) -> None:
    """The work is broken off when the client leaves. Raises what it raises."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(caller.wait_until_left())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
