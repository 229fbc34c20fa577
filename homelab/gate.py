"""Protected mode, after Redis's: one gate in front of every route.

A request that passes all four rules of `judge` comes from this machine's owner; the gate marks it with
`scope["homelab.local"] = True`. Every other request ends here, with a JSON answer that names the ways in; only
`/health` is open to all. No answer carries CORS headers: no other site has business here.
"""

import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOCAL_HOST = re.compile(r"(localhost\.?|127\.0\.0\.1\.?|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_ANY_HOST = re.compile(r"(?P<name>[^:\[\]@/\s]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.IGNORECASE)
_FORWARDING_HEADERS = frozenset({"forwarded", "x-real-ip", "via", "cf-connecting-ip"})
_FORWARDING_PREFIXES = ("x-forwarded-", "tailscale-")
_QUOTED_CHARACTERS = 100
_CLOSED_FOR_POLICY = 1008
_OPENAI_TYPES = {400: "invalid_request_error", 403: "permission_error"}


@dataclass(frozen=True, slots=True)
class GateRequest:
    """What the decision needs to know. `peer` is the socket's own address, None where the server cannot tell it."""

    method: str
    headers: tuple[tuple[str, str], ...]
    peer: str | None = None
    is_unix_socket: bool = False

    def values(self, name: str) -> list[str]:
        """The values of the header's lines, in order; `name` in lower case."""
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Either the request is local, or `code`, `status` and `message` say why not."""

    is_local: bool
    code: str = ""
    status: int = 200
    message: str = ""


LOCAL = Verdict(is_local=True)


def judge(request: GateRequest, *, known_hosts: frozenset[str] = frozenset()) -> Verdict:
    """Is the request this machine's own? The first rule that fails gives the reason.

    1. The peer is loopback or a unix socket.
    2. No header says that somebody passed the request on.
    3. The Host is this machine, by a name that no DNS server can give away.
    4. No other site's page made a browser send it.
    """
    return (
        _judge_peer(request)
        or _judge_forwarding(request)
        or _judge_host(request, known_hosts=known_hosts)
        or _judge_origin(request)
        or LOCAL
    )


def _refuse(code: str, message: str, *, status: int = 403) -> Verdict:
    return Verdict(is_local=False, code=code, status=status, message=message)


# 1. The peer


def _judge_peer(request: GateRequest) -> Verdict | None:
    if request.is_unix_socket or (request.peer is not None and is_loopback(request.peer)):
        return None
    peer = quote(request.peer or "an unknown address")
    return _refuse("protected_mode", f"This server lets in its own machine only; this request came from {peer}.")


def is_loopback(address: str) -> bool:
    """127.0.0.0/8, ::1, and 127.0.0.0/8 as an IPv6 socket shows it (::ffff:127.0.0.1)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


# 2. Proxies and tunnels


def _judge_forwarding(request: GateRequest) -> Verdict | None:
    names = [name for name, _ in request.headers if _is_forwarding(name)]
    if not names:
        return None
    message = f"The header {quote(names[0])} says that a proxy passed this request on, so it may come from anywhere."
    return _refuse("forwarded_request", message)


def _is_forwarding(name: str) -> bool:
    return name in _FORWARDING_HEADERS or name.startswith(_FORWARDING_PREFIXES)


# 3. The Host, against DNS rebinding


def _judge_host(request: GateRequest, *, known_hosts: frozenset[str]) -> Verdict | None:
    hosts = request.values("host")
    if len(hosts) != 1:
        return _refuse("bad_host", f"Exactly one Host header is wanted; this request has {len(hosts)}.", status=400)
    if _LOCAL_HOST.fullmatch(hosts[0]):
        return None
    name = _ANY_HOST.fullmatch(hosts[0])
    if name and name["name"].lower() in known_hosts:
        message = f"Requests for {quote(hosts[0])} may come from elsewhere, and nobody from elsewhere is let in."
        return _refuse("protected_mode", message)
    message = f"This server is localhost, 127.0.0.1 or [::1]; this request is for the host '{quote(hosts[0])}'."
    return _refuse("bad_host", message, status=400)


# 4. Other sites' pages


def _judge_origin(request: GateRequest) -> Verdict | None:
    sites = request.values("sec-fetch-site")
    if sites in (["same-origin"], ["none"]) or (sites and _is_navigation(request)):
        return None
    if sites:
        return _refuse_page(f"Sec-Fetch-Site: {', '.join(sites)}")
    origins = request.values("origin")
    if not origins or (len(origins) == 1 and _is_own(origins[0], host=request.values("host")[0])):
        return None
    return _refuse_page(f"Origin: {', '.join(origins)}")


def _refuse_page(sign: str) -> Verdict:
    return _refuse("cross_origin", f"Another site's page sent this request ({quote(sign)}); only our own pages may.")


def _is_navigation(request: GateRequest) -> bool:
    """A link or a bookmark that opens a page of ours in its own tab."""
    is_page = request.values("sec-fetch-mode") == ["navigate"] and request.values("sec-fetch-dest") == ["document"]
    return is_page and request.method in {"GET", "HEAD"}


def _is_own(origin: str, *, host: str) -> bool:
    """True for http(s)://HOST with the port of the Host header. `null` (a sandboxed frame, a file) is not ours."""
    scheme, separator, authority = origin.partition("://")
    default_port = {"http": 80, "https": 443}.get(scheme)
    if not separator or default_port is None or not _LOCAL_HOST.fullmatch(authority):
        return False
    return _name_and_port(authority, default_port=default_port) == _name_and_port(host, default_port=default_port)


def _name_and_port(authority: str, *, default_port: int) -> tuple[str, int]:
    match = _LOCAL_HOST.fullmatch(authority)
    if match is None:
        raise ValueError(f"{authority!r} is no local authority.")
    return match[1].lower().rstrip("."), int(match[2][1:]) if match[2] else default_port


# The door itself


class Gate:
    """Wraps an ASGI application.

    `allowed_hosts` and `own_addresses` are names under which this server is known elsewhere: not local, but no
    sign of an attack either. `port` is for the ways in that a refusal names.
    """

    def __init__(
        self, app: Application, *, port: int, allowed_hosts: Iterable[str] = (), own_addresses: Iterable[str] = ()
    ) -> None:
        self.app = app
        self.ways_in = ways_in(port)
        addresses = [f"[{address}]" if ":" in address else address for address in own_addresses]
        self.known_hosts = frozenset(name.lower() for name in (*allowed_hosts, *addresses))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _CLOSED_FOR_POLICY})
        else:
            await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        verdict = judge(read_request(scope), known_hosts=self.known_hosts)
        if verdict.is_local:
            await self.app({**scope, "homelab.local": True}, receive, send)
        elif _asks_for_health(scope):
            # A stranger's headers end here: Django would refuse their Host, and nothing may trust the others.
            stranger = {**scope, "homelab.local": False, "headers": [(b"host", b"localhost")]}
            await self.app(stranger, receive, send)
        else:
            await send_refusal(verdict, path=scope["path"], ways_in=self.ways_in, send=send)


def read_request(scope: Scope) -> GateRequest:
    client, server = scope.get("client"), scope.get("server")
    return GateRequest(
        method=scope["method"],
        headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]),
        peer=client[0] if client else None,
        # ASGI: the server's address is (path, None) for a unix socket; a lost TCP peer still has a port here.
        is_unix_socket=client is None and server is not None and server[1] is None,
    )


def _asks_for_health(scope: Scope) -> bool:
    return scope["path"] == "/health" and scope["method"] in {"GET", "HEAD"}


def ways_in(port: int) -> list[str]:
    return [
        f"On this machine: http://localhost:{port}",
        f"From another machine: ssh -L {port}:localhost:{port} USER@THIS-MACHINE, then http://localhost:{port} there",
    ]


async def send_refusal(verdict: Verdict, *, path: str, ways_in: list[str], send: Send) -> None:
    error: dict[str, Any] = {
        "code": verdict.code,
        "message": f"{verdict.message} The ways in: {'; '.join(ways_in)}.",
        "details": {"ways_in": ways_in},
    }
    if path == "/v1" or path.startswith("/v1/"):
        error |= {"type": _OPENAI_TYPES[verdict.status], "param": None}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": verdict.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def quote(value: str) -> str:
    """A stranger's value for a message: no control characters, 100 characters at most."""
    return "".join(character for character in value if character.isprintable())[:_QUOTED_CHARACTERS]
