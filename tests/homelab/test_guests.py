"""The gate for all that do not come from this machine: names, keys, sessions, proxies, HTTPS, and what is refused."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest

from homelab.errors import HomelabError
from homelab.gate import Gate, GateRequest, House, Message, Proxies, Scope, Way, judge
from homelab.gate.rules import opens
from homelab.gate.throttle import WINDOW_SECONDS, WRONG_KEYS, WrongKeys

Headers = tuple[tuple[str, str], ...]
BOX = ("host", "box.lan:8000")
HOUSE = House(names=frozenset({"box.lan"}))
BEARER = ("authorization", "Bearer the-key")
BROWSER = (("accept", "text/html,application/xhtml+xml"),)
NAVIGATION = (("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))


def ask(path: str = "/api/models", *headers: tuple[str, str], house: House = HOUSE, **others: Any) -> Any:
    facts = {"method": "GET", "peer": "10.77.0.2", "server": "10.77.0.1"} | others
    return judge(GateRequest(path=path, headers=(BOX, *headers), **facts), house=house)


# What is open, and what each way in is for


@pytest.mark.parametrize(
    ("method", "path", "way"),
    [
        ("GET", "/health", Way.HEALTH),
        ("HEAD", "/health", Way.HEALTH),
        ("POST", "/health", Way.SESSION),
        ("GET", "/login", Way.OPEN),
        ("POST", "/login", Way.OPEN),
        ("DELETE", "/login", Way.SESSION),
        ("GET", "/login/", Way.SESSION),
        ("GET", "/logout", Way.SESSION),
        ("GET", "/admin/login/", Way.SESSION),
        ("GET", "/static/homelab/login.css", Way.OPEN),
        ("POST", "/static/homelab/login.css", Way.SESSION),
        ("GET", "/static/homelab", Way.SESSION),
        ("GET", "/static/unfold/js/app.js", Way.SESSION),
        ("GET", "/", Way.SESSION),
        ("GET", "/api/models", Way.SESSION),
        ("OPTIONS", "/api/models", Way.SESSION),
        ("POST", "/v1/chat/completions", Way.SESSION),
        ("GET", "/anything", Way.SESSION),
    ],
)
def test_nothing_is_open_but_health_and_the_login_page(method: str, path: str, way: Way) -> None:
    assert ask(path, method=method).way is way


@pytest.mark.parametrize("path", ["/api/models", "/v1/models", "/models/load", "/", "/settings"])
def test_a_bearer_header_is_a_key_to_check_wherever_it_comes(path: str) -> None:
    verdict = ask(path, BEARER)
    assert (verdict.way, verdict.key) == (Way.KEY, "the-key")


@pytest.mark.parametrize(
    ("given", "key"),
    [("Bearer k", "k"), ("bearer k", "k"), ("BEARER   k  ", "k"), ("Bearer", ""), ("Bearer ", "")],
)
def test_a_bearer_header_is_read_as_http_wants_it(given: str, key: str) -> None:
    assert (ask("/v1/models", ("authorization", given)).key) == key


@pytest.mark.parametrize("given", ["Basic dXNlcjpwYXNz", "the-key", "Bearer a b", "", "Bearerk"])
def test_any_other_authorization_is_no_key(given: str) -> None:
    assert ask("/v1/models", ("authorization", given)).code == "protected_mode"


def test_two_authorization_headers_are_refused() -> None:
    verdict = ask("/v1/models", BEARER, BEARER)
    assert (verdict.way, verdict.code, verdict.status) == (Way.NONE, "invalid_api_key", 401)


KEY = "Ab3dEf6h." + "x" * 32


@pytest.mark.parametrize(
    "query", [f"key={KEY}", f"a=b&token={KEY}", KEY, "api_key=x", "a=1&api-key=x", "APIKEY=x", "access_token=x"]
)
@pytest.mark.parametrize("headers", [(), (BEARER,)])
def test_a_key_in_the_url_is_never_accepted_and_told_so(query: str, headers: Headers) -> None:
    verdict = ask("/v1/models", *headers, query=query)
    assert (verdict.way, verdict.code, verdict.status) == (Way.NONE, "invalid_api_key", 401)
    assert "URL" in verdict.message and KEY not in verdict.message


@pytest.mark.parametrize("query", ["hf_path=org/name", "key=value", "monkey=1", "file=a.b", ""])
def test_other_queries_are_no_keys(query: str) -> None:
    assert ask("/v1/models", BEARER, query=query).way is Way.KEY


@pytest.mark.parametrize(
    ("scope", "method", "path", "is_open"),
    [
        ("inference", "GET", "/v1/models", True),
        ("inference", "POST", "/v1/chat/completions", True),
        ("inference", "GET", "/v1", True),
        ("inference", "GET", "/api/ps", True),
        ("inference", "POST", "/api/ps", False),
        ("inference", "GET", "/api/ps/events", False),
        ("inference", "GET", "/api/models", False),
        ("inference", "POST", "/models/load", False),
        ("inference", "GET", "/v1x", False),
        ("admin", "GET", "/v1/models", True),
        ("admin", "DELETE", "/api/models/x", True),
        ("admin", "POST", "/models/load", True),
        ("admin", "GET", "/models", True),
        ("admin", "GET", "/admin/", False),
        ("admin", "GET", "/settings", False),
        ("admin", "POST", "/logout", False),
        ("admin", "GET", "/apix", False),
        ("", "GET", "/api/models", False),
    ],
)
def test_a_key_opens_what_its_scope_says(scope: str, method: str, path: str, is_open: bool) -> None:
    assert opens(scope, method=method, path=path) is is_open


# A browser is led to the login page, a program is told


@pytest.mark.parametrize("headers", [BROWSER, NAVIGATION, BROWSER + NAVIGATION])
def test_a_person_who_opens_a_page_is_led_to_the_login_page_and_back(headers: Headers) -> None:
    verdict = ask("/settings", *headers, query="period=7d")
    assert (verdict.way, verdict.status) == (Way.SESSION, 302)
    assert verdict.location == "/login?next=/settings%3Fperiod%3D7d"


FETCH = (("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("accept", "text/html"))


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/settings", BROWSER),
        ("GET", "/settings", (("accept", "*/*"),)),
        ("GET", "/settings", FETCH),
        ("GET", "/api/models", BROWSER),
        ("GET", "/v1/models", NAVIGATION),
    ],
)
def test_all_others_are_told_in_json(method: str, path: str, headers: Headers) -> None:
    verdict = ask(path, *headers, method=method)
    assert (verdict.code, verdict.status, verdict.location) == ("protected_mode", 401, "")


# Without trust in this machine


def test_without_local_trust_this_machine_is_a_guest_under_its_own_names() -> None:
    request = GateRequest(method="GET", path="/api/models", headers=(("host", "localhost"),), peer="127.0.0.1")
    verdict = judge(request, house=House(trusts_local=False))
    assert (verdict.way, verdict.code, verdict.status) == (Way.SESSION, "not_authenticated", 401)


# HTTPS

STRICT = House(names=frozenset({"box.lan"}), wants_https=True)


def test_where_https_is_wanted_a_key_over_http_is_not_even_looked_at() -> None:
    verdict = ask("/v1/models", BEARER, house=STRICT)
    assert (verdict.way, verdict.code, verdict.status) == (Way.NONE, "https_required", 403)
    assert ask("/v1/models", BEARER, house=STRICT, scheme="https").way is Way.KEY


def test_where_https_is_wanted_a_person_is_led_there() -> None:
    assert ask("/login", *BROWSER, house=STRICT, query="next=/").location == "https://box.lan/login?next=/"


def test_where_https_is_wanted_this_machine_and_health_still_speak_http() -> None:
    assert ask("/health", house=STRICT).way is Way.HEALTH
    request = GateRequest(method="GET", headers=(("host", "localhost"),), peer="::1")
    assert judge(request, house=STRICT).is_local
    untrusted = House(wants_https=True, trusts_local=False)
    assert judge(request, house=untrusted).code == "not_authenticated"


# Proxies

PROXIES = Proxies((ip_network("127.0.0.2"), ip_network("10.9.0.0/24"), ip_network("fd00::/64")))


def unwrap(peer: str | None, *headers: tuple[str, str]) -> GateRequest:
    return PROXIES.unwrap(GateRequest(method="GET", headers=(BOX, *headers), peer=peer))


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.77.0.2", "::1", "fd01::1", "", None])
def test_nobody_else_is_believed(peer: str | None) -> None:
    request = GateRequest(method="GET", headers=(BOX, ("x-forwarded-for", "127.0.0.1")), peer=peer)
    assert PROXIES.unwrap(request) is request
    assert judge(request, house=HOUSE).code == "forwarded_request"


@pytest.mark.parametrize(
    ("lines", "sender"),
    [
        (["203.0.113.5"], "203.0.113.5"),
        (["127.0.0.1, 203.0.113.5"], "203.0.113.5"),  # the first hop is what the sender wrote
        (["203.0.113.5, 10.9.0.7"], "203.0.113.5"),
        (["203.0.113.5", "10.9.0.7"], "203.0.113.5"),
        (["203.0.113.5:4711"], "203.0.113.5"),
        (["[2001:db8::1]:4711, fd00::9"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["203.0.113.5, unknown, 10.9.0.7"], "10.9.0.7"),
        (["127.0.0.1"], "127.0.0.1"),
        ([""], "127.0.0.2"),
        ([], "127.0.0.2"),
    ],
)
def test_the_sender_is_the_last_hop_that_no_trusted_proxy_is(lines: list[str], sender: str) -> None:
    request = unwrap("127.0.0.2", *(("x-forwarded-for", line) for line in lines))
    assert (request.peer, request.is_proxied) == (sender, True)


@pytest.mark.parametrize(
    ("given", "scheme"), [(["https"], "https"), (["http"], "http"), ([], "http"), (["https", "http"], "http")]
)
def test_the_scheme_is_what_the_proxy_says(given: Iterable[str], scheme: str) -> None:
    assert unwrap("::ffff:10.9.0.1", *(("x-forwarded-proto", value) for value in given)).scheme == scheme


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000"])
@pytest.mark.parametrize("headers", [(), (("x-forwarded-for", "127.0.0.1"),), (("x-forwarded-for", "::1"),)])
def test_what_a_trusted_proxy_brings_is_never_local(host: str, headers: Headers) -> None:
    request = GateRequest(method="GET", headers=(("host", host), *headers), peer="127.0.0.2", server="127.0.0.1")
    verdict = judge(PROXIES.unwrap(request), house=HOUSE)
    assert not verdict.is_local
    assert verdict.code in {"bad_host", "protected_mode"}


def test_a_trusted_proxy_may_speak_http_1_0() -> None:
    request = GateRequest(method="GET", path="/v1/models", headers=(BOX, BEARER), peer="127.0.0.2", http_version="1.0")
    assert judge(PROXIES.unwrap(request), house=HOUSE).way is Way.KEY


# Wrong keys


def test_ten_wrong_keys_in_a_minute_close_the_door_until_the_first_is_a_minute_old() -> None:
    wrong = WrongKeys()
    for moment in range(WRONG_KEYS):
        assert wrong.wait_seconds("10.0.0.1", now=moment) == 0
        wrong.note("10.0.0.1", now=moment)
    assert wrong.wait_seconds("10.0.0.1", now=9.5) == 51
    assert wrong.wait_seconds("10.0.0.2", now=9.5) == 0
    assert wrong.wait_seconds("10.0.0.1", now=WINDOW_SECONDS) == 0
    wrong.note("10.0.0.1", now=WINDOW_SECONDS)
    assert wrong.wait_seconds("10.0.0.1", now=WINDOW_SECONDS) == 1


def test_all_addresses_of_one_ipv6_home_are_one_sender() -> None:
    wrong = WrongKeys()
    for number in range(WRONG_KEYS):
        wrong.note(f"2001:db8::{number}", now=0)
    assert wrong.wait_seconds("2001:db8::ffff", now=0) == 60
    assert wrong.wait_seconds("2001:db8:0:1::1", now=0) == 0


def test_many_addresses_cost_no_memory_without_end() -> None:
    wrong = WrongKeys()
    for number in range(20_000):
        wrong.note(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", now=0)
    assert len(wrong._moments) == 10_000


# The door


@dataclass(frozen=True)
class SomeKey:
    name: str
    scope: str


@dataclass
class Keeper:
    """A doorman with two keys, who lets in whoever has a cookie; or has no database."""

    keys: dict[str, SomeKey] = field(
        default_factory=lambda: {"a-key": SomeKey("laptop", "admin"), "i-key": SomeKey("chat", "inference")}
    )
    error: HomelabError | None = None

    async def find_key(self, text: str) -> SomeKey | None:
        if self.error:
            raise self.error
        return self.keys.get(text)

    async def is_signed_in(self, scope: Scope) -> bool:
        return (b"cookie", b"good") in scope["headers"]


@dataclass
class Visit:
    """A gate, what reached the application behind it, and what it answered itself."""

    keeper: Keeper = field(default_factory=Keeper)
    scopes: list[Scope] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate = Gate(self._app, port=8000, doorman=self.keeper, house=HOUSE, proxies=PROXIES)

    async def _app(self, scope: Scope, receive: Any, send: Any) -> None:
        self.scopes.append(scope)

    def knock(self, path: str, *headers: tuple[bytes, bytes], **others: Any) -> tuple[int, dict[bytes, bytes], Any]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "scheme": "http"}
        scope |= {"headers": [(b"host", b"box.lan"), *headers], "client": ("10.77.0.2", 5), "server": ("10.77.0.1", 8)}
        asyncio.run(self.gate(scope | others, _receive, send))
        if not sent:
            return 0, {}, None
        return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"] or b"null")


async def _receive() -> Message:
    return {"type": "http.request"}


def bearer(key: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {key}".encode()


def test_a_key_goes_on_with_its_name_and_without_its_secret() -> None:
    visit = Visit()
    visit.knock("/api/models", bearer("a-key"), (b"cookie", b"good"))
    [scope] = visit.scopes
    assert (scope["homelab.local"], scope["homelab.key"].name) == (False, "laptop")
    assert scope["headers"] == [(b"host", b"box.lan")]


def test_a_key_for_less_says_what_it_is_for() -> None:
    visit = Visit()
    status, _, body = visit.knock("/api/models", bearer("i-key"))
    assert (status, body["error"]["code"]) == (403, "insufficient_scope")
    assert "'chat'" in body["error"]["message"]
    assert visit.scopes == []


def test_a_wrong_key_is_a_401_that_says_how_to_authenticate() -> None:
    status, headers, body = Visit().knock("/v1/models", bearer("wrong"))
    assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
    assert (body["error"]["code"], body["error"]["type"]) == ("invalid_api_key", "authentication_error")
    assert any("Bearer KEY" in way for way in body["error"]["details"]["ways_in"])


def test_after_ten_wrong_keys_even_a_right_one_has_to_wait() -> None:
    visit = Visit()
    answers = {visit.knock("/v1/models", bearer(f"wrong-{number}"))[0] for number in range(10)}
    assert answers == {401}
    status, headers, body = visit.knock("/v1/models", bearer("a-key"))
    assert (status, body["error"]["code"], body["error"]["type"]) == (429, "too_many_wrong_keys", "rate_limit_error")
    assert 0 < int(headers[b"retry-after"]) <= 60
    assert visit.knock("/v1/models", bearer("a-key"), client=("10.77.0.3", 1))[0] == 0


def test_who_is_signed_in_goes_on_and_nobody_is_asked_about_those_without_a_cookie() -> None:
    visit = Visit()
    assert visit.knock("/settings", (b"cookie", b"good"))[0] == 0
    assert visit.scopes[0]["homelab.key"] is None
    assert visit.knock("/settings", (b"cookie", b"bad"))[0] == 401
    assert visit.knock("/settings")[0] == 401


def test_a_redirect_has_no_body() -> None:
    status, headers, body = Visit().knock("/settings", (b"accept", b"text/html"))
    assert (status, headers[b"location"], body) == (302, b"/login?next=/settings", None)


def test_behind_a_trusted_proxy_the_application_sees_its_client() -> None:
    visit = Visit()
    forwarded = [(b"X-Forwarded-For", b"203.0.113.5"), (b"x-forwarded-proto", b"https"), (b"via", b"1.1 x")]
    visit.knock("/api/models", bearer("a-key"), *forwarded, client=("127.0.0.2", 5))
    [scope] = visit.scopes
    assert (scope["client"], scope["scheme"]) == (("203.0.113.5", 0), "https")
    assert scope["headers"] == [(b"host", b"box.lan")]


def test_behind_a_proxy_wrong_keys_count_for_their_senders() -> None:
    visit = Visit()
    for _ in range(10):
        visit.knock("/v1/models", bearer("wrong"), (b"x-forwarded-for", b"203.0.113.5"), client=("127.0.0.2", 5))
    answers = {
        sender: visit.knock("/v1/models", bearer("a-key"), (b"x-forwarded-for", sender), client=("127.0.0.2", 5))[0]
        for sender in (b"203.0.113.5", b"203.0.113.6")
    }
    assert answers == {b"203.0.113.5": 429, b"203.0.113.6": 0}


def test_where_the_keys_cannot_be_read_the_answer_says_when_to_come_back() -> None:
    error = HomelabError("The database is away.")
    error.code, error.status, error.retry_after_seconds = "database_unavailable", 503, 5
    status, headers, body = Visit(Keeper(error=error)).knock("/v1/models", bearer("a-key"))
    assert (status, headers[b"retry-after"]) == (503, b"5")
    assert (body["error"]["code"], body["error"]["type"]) == ("database_unavailable", "server_error")


def test_a_local_request_keeps_its_bearer_header_and_nobody_looks_at_it() -> None:
    visit = Visit()
    for _ in range(12):
        visit.knock("/api/models", bearer("anything"), (b"x", b"y"), client=("127.0.0.1", 1), headers=LOCAL_HEADERS)
    assert len(visit.scopes) == 12
    assert visit.scopes[0]["headers"] == LOCAL_HEADERS


LOCAL_HEADERS = [(b"host", b"localhost"), bearer("any")]
