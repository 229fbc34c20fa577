"""Who comes in, and by which way. Pure: values in, a verdict out."""

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote as quote_url

from homelab.addresses import is_loopback, parse_address
from homelab.gate.proxies import is_forwarding
from homelab.gate.request import GateRequest, Host, parse_host, quote
from homelab.routes import is_below

ADMIN = "admin"
LOGIN_PATH = "/login"
_OPEN_FILES = "/static/homelab"  # what the login page shows
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_READING = frozenset({"GET", "HEAD"})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_BEARER = re.compile(r"bearer(?: +(?P<key>\S+))? *", re.IGNORECASE)
_KEY_IN_QUERY = re.compile(r"(?:^|&)(?:api[-_]?key|access_token)=|[0-9A-Za-z]{8}\.[0-9A-Za-z]{32}", re.IGNORECASE)


class Way(Enum):
    LOCAL = "local"  # this machine's owner: everything
    HEALTH = "health"  # anybody, and nothing is told about them
    OPEN = "open"  # anybody: the login page
    KEY = "key"  # whoever has the key
    SESSION = "session"  # whoever is signed in
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A way in, with the key to check where it is KEY; for SESSION and NONE what those are told who do not come in.

    With a `location` the answer is a redirect.
    """

    way: Way
    code: str = ""
    status: int = 200
    message: str = ""
    key: str = ""
    location: str = ""
    retry_after_seconds: int = 0

    @property
    def is_local(self) -> bool:
        return self.way is Way.LOCAL


@dataclass(frozen=True, slots=True)
class House:
    """`names`: under which we are known elsewhere, ALLOWED_HOSTS, in lower case, IPv6 addresses in brackets."""

    names: frozenset[str] = frozenset()
    trusts_local: bool = True
    wants_https: bool = False


def judge(request: GateRequest, *, house: House) -> Verdict:
    """The first rule that has something to say says it.

    1. What comes from this machine is its owner's, where the owner trusts the machine; by the owner's socket always.
    2. `/health` is open to all.
    3. No stranger passed the request on.
    4. The Host is a name of ours.
    5. No other site's page made a browser send it.
    6. It came encrypted, where the owner wants that.
    7. No key stands in the URL.
    8. The login page is open to all.
    9. A key opens what it is for: `opens`.
    10. Everything else is for people who signed in.
    """
    is_here = comes_from_here(request)
    if is_here and (house.trusts_local or request.is_unix_socket):
        return Verdict(Way.LOCAL)
    if request.path == "/health" and request.method in _READING:
        return Verdict(Way.HEALTH)
    return (
        _judge_forwarding(request)
        or _judge_host(request, names=house.names | _LOCAL_NAMES if _is_near(request) else house.names)
        or _judge_origin(request)
        or _judge_scheme(request, is_wanted=house.wants_https and not is_here)
        or _judge_query(request)
        or _judge_open_page(request)
        or _judge_key(request)
        or _want_session(request, is_here=is_here)
    )


def comes_from_here(request: GateRequest) -> bool:
    """Redis's protected mode and a browser's: all four have to hold.

    The peer is loopback or a unix socket; nobody passed the request on; the Host is this machine, by a name that no
    name server can give away; and no other site's page made a browser send it.
    """
    if not _is_near(request) or _judge_forwarding(request):
        return False
    hosts = [parse_host(host) for host in request.values("host")]
    is_local_host = len(hosts) == 1 and hosts[0] is not None and hosts[0].name in _LOCAL_NAMES
    return is_local_host and _judge_origin(request) is None


def _is_near(request: GateRequest) -> bool:
    is_own_peer = request.peer is not None and is_loopback(request.peer)
    return not request.is_proxied and (request.is_unix_socket or is_own_peer)


def opens(scope: str, *, method: str, path: str) -> bool:
    """Does a key of this scope open the door? An inference key asks models, and looks what is in memory."""
    if is_below(path, "/v1"):
        return True
    if scope == ADMIN:
        return is_below(path, "/api", "/models")
    return path == "/api/ps" and method in _READING


def refuse(code: str, message: str, *, status: int = 403, retry_after_seconds: int = 0) -> Verdict:
    return Verdict(Way.NONE, code=code, status=status, message=message, retry_after_seconds=retry_after_seconds)


# 3. Proxies and tunnels


def _judge_forwarding(request: GateRequest) -> Verdict | None:
    signs = [f"The header {quote(name)}" for name, _ in request.headers if is_forwarding(name)]
    if request.http_version == "1.0" and not request.is_proxied:
        # A bare proxy_pass of nginx before 1.29.7 adds no header, but speaks HTTP/1.0, as no browser or SDK does today.
        signs.append("HTTP/1.0")
    if not signs:
        return None
    message = f"{signs[0]} says that a proxy passed this request on, so it may come from anywhere."
    return refuse("forwarded_request", f"{message} Proxies of yours are named in TRUSTED_PROXIES.")


# 4. The Host, against DNS rebinding


def _judge_host(request: GateRequest, *, names: frozenset[str]) -> Verdict | None:
    hosts = request.values("host")
    if len(hosts) != 1:
        return refuse("bad_host", f"Exactly one Host header is wanted; this request has {len(hosts)}.", status=400)
    host = parse_host(hosts[0])
    if host and (host.name in names or _is_where_it_arrived(host, request)):
        return None
    message = f"This request is for the host '{quote(hosts[0])}'. On this machine, the server is localhost, 127.0.0.1"
    message += " or [::1]; elsewhere, the address that it listens on, or a name that stands in ALLOWED_HOSTS."
    return refuse("bad_host", message, status=400)


def _is_where_it_arrived(host: Host, request: GateRequest) -> bool:
    """The address of ours that the client really reached. No name server can lead anybody to it under this name."""
    address = parse_address(host.name)
    return address is not None and request.server is not None and address == parse_address(request.server)


# 5. Other sites' pages


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
    return refuse("cross_origin", f"Another site's page sent this request ({quote(sign)}); only our own pages may.")


def _is_navigation(request: GateRequest) -> bool:
    """A link or a bookmark that opens a page of ours in its own tab."""
    is_page = request.values("sec-fetch-mode") == ["navigate"] and request.values("sec-fetch-dest") == ["document"]
    return is_page and request.method in _READING


def _is_own(origin: str, *, host: str) -> bool:
    """True for http(s)://HOST with the port of the Host header. `null` (a sandboxed frame, a file) is not ours."""
    scheme, separator, authority = origin.partition("://")
    default_port = _DEFAULT_PORTS.get(scheme)
    theirs, ours = parse_host(authority), parse_host(host)
    if not separator or default_port is None or theirs is None or ours is None:
        return False
    return (theirs.name, theirs.port or default_port) == (ours.name, ours.port or default_port)


# 6. Encryption


def _judge_scheme(request: GateRequest, *, is_wanted: bool) -> Verdict | None:
    if not is_wanted or request.scheme == "https":
        return None
    host = parse_host(request.values("host")[0])
    if host and _is_page_visit(request):
        return Verdict(Way.NONE, status=302, location=f"https://{host.name}{_target(request)}")
    message = "Here keys and passwords are taken over https:// only (HTTPS=on), and this request came over http://."
    return refuse("https_required", message)


# 7. Keys where logs and histories would keep them


def _judge_query(request: GateRequest) -> Verdict | None:
    if not _KEY_IN_QUERY.search(request.query):
        return None
    message = "A key in the URL is never accepted, because logs and histories keep URLs. Take that key for known, and"
    return refuse("invalid_api_key", f"{message} send a new one in the header Authorization: Bearer KEY.", status=401)


# 8. What is open


def _judge_open_page(request: GateRequest) -> Verdict | None:
    is_login = request.path == LOGIN_PATH and request.method in _READING | {"POST"}
    is_file = request.path.startswith(f"{_OPEN_FILES}/") and request.method in _READING
    return Verdict(Way.OPEN) if is_login or is_file else None


# 9. Keys


def _judge_key(request: GateRequest) -> Verdict | None:
    given = request.values("authorization")
    if len(given) > 1:
        return refuse("invalid_api_key", "This request has more than one Authorization header.", status=401)
    bearer = _BEARER.fullmatch(given[0]) if given else None
    return Verdict(Way.KEY, key=bearer["key"] or "") if bearer else None


# 10. Everybody else


def _want_session(request: GateRequest, *, is_here: bool) -> Verdict:
    if _is_page_visit(request):
        return Verdict(Way.SESSION, status=302, location=f"{LOGIN_PATH}?next={quote_url(_target(request), safe='/')}")
    if is_here:
        code, message = "not_authenticated", "LOCAL_TRUST is off, so this machine, too, needs a key or a sign-in."
    else:
        peer = quote(request.peer or "an unknown address")
        code = "protected_mode"
        message = f"This request came from {peer}, with no key and no sign-in; only this machine needs neither."
    return Verdict(Way.SESSION, code=code, status=401, message=message)


def _is_page_visit(request: GateRequest) -> bool:
    """A person's browser opens a page. Those that send no Sec-Fetch headers are known by what they accept."""
    if request.method != "GET" or request.is_for_programs:
        return False
    return _is_navigation(request) or (
        not request.values("sec-fetch-mode") and any("text/html" in value for value in request.values("accept"))
    )


def _target(request: GateRequest) -> str:
    return quote_url(request.path) + (f"?{request.query}" if request.query else "")
