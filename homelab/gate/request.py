"""A request as the gate looks at it. Pure."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from homelab.routes import is_below

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_HOST = re.compile(r"(?P<name>[^:\[\]@/\s]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?", re.IGNORECASE)
_QUOTED_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class GateRequest:
    """What the decision needs to know.

    `peer` is the socket's own address, or who asked a proxy that we trust; None where the server cannot tell it.
    `server` is the address of ours at which the request arrived.
    """

    method: str
    headers: tuple[tuple[str, str], ...]
    path: str = "/"
    query: str = ""
    peer: str | None = None
    server: str | None = None
    scheme: str = "http"
    http_version: str = "1.1"
    is_unix_socket: bool = False
    is_proxied: bool = False

    def values(self, name: str) -> list[str]:
        """The values of the header's lines, in order; `name` in lower case."""
        return [value for key, value in self.headers if key == name]

    @property
    def is_for_programs(self) -> bool:
        return is_below(self.path, "/api", "/v1", "/models")


@dataclass(frozen=True, slots=True)
class Host:
    """`name` is in lower case, without a dot at its end; `port` is None where it is the scheme's own."""

    name: str
    port: int | None


def parse_host(text: str) -> Host | None:
    """`box.lan:8000`, `10.0.0.1`, `[::1]:8000`; None for what is no host."""
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    return Host(name=match["name"].lower().removesuffix("."), port=int(match["port"]) if match["port"] else None)


def read_request(scope: Scope) -> GateRequest:
    client, server = scope.get("client"), scope.get("server")
    return GateRequest(
        method=scope["method"],
        headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]),
        path=scope["path"],
        query=scope.get("query_string", b"").decode("latin-1"),
        peer=client[0] if client else None,
        server=server[0] if server else None,
        scheme=scope.get("scheme", "http"),
        http_version=scope.get("http_version", "1.1"),
        # ASGI: the server's address is (path, None) for a unix socket; a lost TCP peer still has a port here.
        is_unix_socket=client is None and server is not None and server[1] is None,
    )


def quote(value: str) -> str:
    """A stranger's value for a message: no control characters, 100 characters at most."""
    return "".join(character for character in value if character.isprintable())[:_QUOTED_CHARACTERS]
