"""The gate as an ASGI application: whom `rules` let in goes on, all others are answered here."""

import json
import logging
import time
from typing import Any, Protocol

from homelab.errors import HomelabError, openai_type
from homelab.gate.proxies import Proxies
from homelab.gate.request import Application, GateRequest, Receive, Scope, Send, quote, read_request
from homelab.gate.rules import House, Verdict, Way, judge, opens, refuse
from homelab.gate.throttle import WrongKeys
from homelab.routes import is_below

logger = logging.getLogger(__name__)

_CLOSED_FOR_POLICY = 1008
_SECRETS = frozenset({b"authorization", b"cookie"})
_INVALID = "This key is not valid here: it is unknown, revoked or expired. manage.py apikey list shows which are valid."


class Key(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def scope(self) -> str: ...


class Doorman(Protocol):
    """What the gate has to ask somebody who knows the keys and the accounts. Raises HomelabError if that fails."""

    async def find_key(self, text: str) -> Key | None:
        """The key, if it is valid now."""
        ...

    async def is_signed_in(self, scope: Scope) -> bool: ...


class Gate:
    """Wraps an ASGI application, and tells it in the scope who comes.

    `homelab.local`: True for this machine's owner. `homelab.key`: the key of a program elsewhere, or None. With a
    trusted proxy, `client` and `scheme` are those of its own client. `port` is for the ways in that a refusal names.
    """

    def __init__(
        self, app: Application, *, port: int, doorman: Doorman, house: House, proxies: Proxies | None = None
    ) -> None:
        self.app = app
        self.ways_in = ways_in(port)
        self.doorman = doorman
        self.house = house
        self.proxies = proxies or Proxies()
        self.wrong_keys = WrongKeys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _CLOSED_FOR_POLICY})
        else:
            await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self.proxies.unwrap(read_request(scope))
        verdict = judge(request, house=self.house)
        if verdict.is_local:
            await self.app({**scope, "homelab.local": True, "homelab.key": None}, receive, send)
            return
        try:
            guest = await self._let_in(verdict, request, scope=_as_guest(scope, request))
        except HomelabError as error:
            wait = getattr(error, "retry_after_seconds", 0)
            guest = refuse(error.code, error.message, status=error.status, retry_after_seconds=wait)
        if isinstance(guest, Verdict):
            await send_refusal(guest, path=request.path, ways_in=self.ways_in, send=send)
        else:
            await self.app(guest, receive, send)

    async def _let_in(self, verdict: Verdict, request: GateRequest, *, scope: Scope) -> Scope | Verdict:
        """The scope with which the guest goes on, or why it does not."""
        if verdict.way is Way.HEALTH:
            # A stranger's headers end here: nothing behind has to look at them.
            return {**scope, "headers": [(b"host", b"localhost")]}
        if verdict.way is Way.OPEN or (verdict.way is Way.SESSION and await self._is_signed_in(scope)):
            return scope
        if verdict.way is Way.KEY:
            return await self._check_key(verdict.key, request, scope=scope)
        return verdict

    async def _is_signed_in(self, scope: Scope) -> bool:
        return any(name == b"cookie" for name, _ in scope["headers"]) and await self.doorman.is_signed_in(scope)

    async def _check_key(self, text: str, request: GateRequest, *, scope: Scope) -> Scope | Verdict:
        if wait := self.wrong_keys.wait_seconds(request.peer, now=time.monotonic()):
            message = f"Too many wrong keys came from this address. In {wait} s the next one is looked at."
            return refuse("too_many_wrong_keys", message, status=429, retry_after_seconds=wait)
        key = await self.doorman.find_key(text)
        if key is None:
            logger.warning("A wrong API key came from %s.", quote(request.peer or "an unknown address"))
            self.wrong_keys.note(request.peer, now=time.monotonic())
            return refuse("invalid_api_key", _INVALID, status=401)
        if not opens(key.scope, method=request.method, path=request.path):
            return _out_of_scope(key)
        headers = [header for header in scope["headers"] if header[0].lower() not in _SECRETS]
        return {**scope, "homelab.key": key, "headers": headers}


def _as_guest(scope: Scope, request: GateRequest) -> Scope:
    guest = {**scope, "homelab.local": False, "homelab.key": None}
    if not request.is_proxied:
        return guest
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
    return guest | {"client": (request.peer, 0), "scheme": request.scheme, "headers": headers}


def _out_of_scope(key: Key) -> Verdict:
    message = f"The key '{key.name}' has the scope {key.scope}. An inference key opens /v1 and GET /api/ps, an admin"
    return refuse("insufficient_scope", f"{message} key /v1 and /api; pages are for people who sign in at /login.")


def ways_in(port: int) -> list[str]:
    return [
        f"On this machine: http://localhost:{port}",
        "Programs elsewhere: the header Authorization: Bearer KEY, with a key that manage.py apikey or the admin makes",
        "People elsewhere: sign in at /login",
        f"From another machine: ssh -L {port}:localhost:{port} USER@THIS-MACHINE, then http://localhost:{port} there",
    ]


async def send_refusal(verdict: Verdict, *, path: str, ways_in: list[str], send: Send) -> None:
    error: dict[str, Any] = {
        "code": verdict.code,
        "message": f"{verdict.message} The ways in: {'; '.join(ways_in)}.",
        "details": {"ways_in": ways_in},
    }
    if is_below(path, "/v1"):
        error |= {"type": openai_type(verdict.status), "param": None}
    body = b"" if verdict.location else json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += _more_headers(verdict)
    await send({"type": "http.response.start", "status": verdict.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _more_headers(verdict: Verdict) -> list[tuple[bytes, bytes]]:
    more = {
        b"location": verdict.location,
        b"retry-after": str(verdict.retry_after_seconds or ""),
        b"www-authenticate": "Bearer" if verdict.status == 401 else "",
    }
    return [(name, value.encode("latin-1")) for name, value in more.items() if value]
