"""Bodies of requests: JSON, and within limits that hold while it is read. Nothing of one is kept on a disk.

Django would take a whole body in, however large, before any of its middleware runs. Here it is read when somebody who
may ask wants it: by `Bodies` for Django, and by the gateway's own door.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from homelab.api import describe_error
from homelab.errors import HomelabError
from homelab.routes import is_below

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MIB = 1024 * 1024
USUAL_BYTES = MIB
OTHER_BYTES: Mapping[str, int] = {
    "/v1/chat/completions": 8 * MIB,
    "/v1/completions": 8 * MIB,
    "/login": 16 * 1024,  # strangers may send these two
    "/admin/login/": 16 * 1024,
    "/health": 1024,  # strangers may ask for these, and have nothing to say
    "/favicon.ico": 1024,
}
_FILES = "/static"
_BYTES_FOR_FILES = 1024
BODY_SECONDS = 60.0
MAX_DEPTH = 64
_JSON_ROOFS = ("/api", "/v1", "/models")
_QUICK_BYTES = 64 * 1024
_DRAINED_BYTES = 64 * MIB
_DRAIN_SECONDS = 10.0


class WrongMediaType(HomelabError):
    code = "unsupported_media_type"
    status = 415
    param = "body"


class InvalidJson(HomelabError):
    code = "invalid_json"
    status = 400
    param = "body"


class BodyTooLarge(HomelabError):
    code = "body_too_large"
    status = 413


class BodyTooSlow(HomelabError):
    code = "body_too_slow"
    status = 408
    retry_after_seconds = 1


class CallerLeft(Exception):
    """In the middle of its own request."""


# Reading


class Body:
    """The body of one request, which can be read once. How large it may be depends on the path."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.is_json_wanted = is_below(scope["path"], *_JSON_ROOFS)
        usual = _BYTES_FOR_FILES if is_below(scope["path"], _FILES) else USUAL_BYTES
        self.limit_bytes = OTHER_BYTES.get(scope["path"], usual)
        self._headers = scope["headers"]
        self._receive = receive
        self._read_bytes = 0
        self._has_more = True

    async def read(self) -> bytes:
        """Raises WrongMediaType, BodyTooLarge, BodyTooSlow, CallerLeft: as soon as it can be known."""
        body = bytearray()
        self._check(int(self._header(b"content-length") or 0))
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while self._has_more:
                    body += await self._next()
                    self._check(self._read_bytes)
        except TimeoutError as error:
            raise BodyTooSlow(f"The body did not come within {BODY_SECONDS:g} s.") from error
        return bytes(body)

    async def drain(self) -> None:
        """Many clients look for an answer only once all is sent. Nothing of it is kept, and it ends soon."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._has_more and self._read_bytes < _DRAINED_BYTES:
                    await self._next()
        except (TimeoutError, CallerLeft):
            return

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        part: bytes = message.get("body", b"")
        self._read_bytes += len(part)
        self._has_more = bool(message.get("more_body", False))
        return part

    def _check(self, size_bytes: int) -> None:
        if size_bytes and self.is_json_wanted and not _is_json(self._header(b"content-type")):
            raise WrongMediaType("The body has to be JSON: send Content-Type: application/json.")
        if size_bytes > self.limit_bytes:
            raise BodyTooLarge(
                f"The body has {size_bytes} bytes or more, and {self.limit_bytes} are the most that is read here."
            )

    def _header(self, wanted: bytes) -> bytes:
        return next((value for name, value in self._headers if name == wanted), b"")


def _is_json(content_type: bytes) -> bool:
    kind, _, options = content_type.decode("latin-1").lower().partition(";")
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]*)", options)
    return kind.strip() == "application/json" and (charset is None or charset[1] in {"utf-8", "utf8"})


# JSON


async def parse_body(body: bytes) -> Any:
    """As `parse_json`. While a large one is parsed, others are served. None for an empty one."""
    if len(body) > _QUICK_BYTES:
        return await asyncio.to_thread(parse_json, body)
    return parse_json(body) if body else None


def parse_json(body: bytes) -> Any:
    """Raises InvalidJson: not UTF-8, not JSON, a key twice, NaN, half of a surrogate pair, or too deep."""
    try:
        text = body.decode()
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise InvalidJson(f"The body is not JSON in UTF-8: {error}") from error
    if _is_too_deep(text):
        raise _too_deep()
    _refuse_half_pairs(text, value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two programs that read a body with a key twice may each believe another value."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidJson(f"The body is not JSON that has one meaning: it names {ascii(name)[:60]} twice.")
        found[name] = value
    return found


def _refuse_constant(name: str) -> None:
    raise InvalidJson(f"The body is not JSON: {name} is no number there.")


_TEXT = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_ONLY_BRACKETS = {ord("["): "(", ord("{"): "(", ord("]"): ")", ord("}"): ")"}


def _is_too_deep(text: str) -> bool:
    """Of valid JSON. Each round takes the innermost pairs away."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    left = re.sub(r"[^()]+", "", _TEXT.sub("", text).translate(_ONLY_BRACKETS))
    for _ in range(MAX_DEPTH):
        left = left.replace("()", "")
    return bool(left)


def _too_deep() -> InvalidJson:
    return InvalidJson(f"The body is nested too deep: {MAX_DEPTH} levels are the most.")


_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def _refuse_half_pairs(text: str, value: Any) -> None:
    """Such an escape is no character, and nobody could write it down, or answer it."""
    if _HALF_PAIR.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InvalidJson("The body has half of a surrogate pair, which is no character.") from error


# Django's part


class Bodies:
    """In front of Django, which gets each body whole, checked, and from memory."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(scope, receive)
        try:
            read = await body.read()
            if body.is_json_wanted:
                await parse_body(read)
        except CallerLeft:
            return
        except HomelabError as error:
            await refuse(error, scope=scope, body=body, send=send)
            return
        await self.app(scope, _handed_on(read, receive), send)


def _handed_on(body: bytes, receive: Receive) -> Receive:
    """The body as one message, then whatever comes: that the client left."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def hand_on() -> Message:
        return messages.pop() if messages else await receive()

    return hand_on


async def refuse(error: HomelabError, *, scope: Scope, body: Body, send: Send) -> None:
    """Answers at once, in the shape of the path's API. Then what is left of the body is let go by: a connection that is
    cut before may lose the answer."""
    status, headers, content = describe_error(error, path=scope["path"])
    encoded = json.dumps(content).encode()
    about = {"content-type": "application/json", "content-length": str(len(encoded)), **headers}
    about["x-content-type-options"] = "nosniff"
    pairs = [(name.lower().encode(), value.encode()) for name, value in about.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": encoded, "more_body": True})
    await body.drain()
    await send({"type": "http.response.body", "body": b""})
