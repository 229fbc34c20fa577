"""The gate: what counts as this machine's own request, and what everybody else is told."""

import asyncio
import json
from typing import Any

import pytest

from homelab.addresses import is_loopback
from homelab.gate import Gate, GateRequest, House, Message, Receive, Scope, Send, Verdict, judge, quote

HOST = ("host", "localhost:8000")
HERE = ("host", "10.77.0.1:8000")
HOUSE = House(names=frozenset({"gpubox.lan", "[fe80::1]"}))


def ask(*headers: tuple[str, str], method: str = "GET", peer: str | None = "127.0.0.1") -> Verdict:
    return judge(GateRequest(method=method, headers=headers, peer=peer, server="10.77.0.1"), house=HOUSE)


# 1. The peer


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "::ffff:127.255.0.1"])
def test_a_loopback_peer_is_local(peer: str) -> None:
    assert ask(HOST, peer=peer).is_local


@pytest.mark.parametrize(
    "peer", ["10.77.0.2", "192.168.1.4", "0.0.0.0", "::", "fe80::1", "fe80::1%eth0", "::ffff:10.0.0.1", "", "x", None]
)
def test_any_other_peer_is_refused_in_protected_mode(peer: str | None) -> None:
    verdict = ask(HERE, peer=peer)
    assert (verdict.is_local, verdict.code, verdict.status) == (False, "protected_mode", 401)


def test_from_elsewhere_we_are_not_localhost() -> None:
    assert ask(HOST, peer="10.77.0.2").code == "bad_host"


def test_the_refusal_of_a_peer_names_its_address() -> None:
    assert "10.77.0.2" in ask(HERE, peer="10.77.0.2").message


def test_a_unix_socket_is_local() -> None:
    assert judge(GateRequest(method="GET", headers=(HOST,), is_unix_socket=True), house=HOUSE).is_local


def test_the_owners_socket_opens_all_where_the_machine_is_not_trusted() -> None:
    distrustful = House(trusts_local=False)
    assert judge(GateRequest(method="GET", headers=(HOST,), is_unix_socket=True), house=distrustful).is_local
    passed_on = GateRequest(method="GET", headers=(HOST, ("x-forwarded-for", "1.2.3.4")), is_unix_socket=True)
    assert not judge(passed_on, house=distrustful).is_local


def test_what_is_no_address_is_no_loopback() -> None:
    assert not is_loopback("localhost")


# 2. Proxies


@pytest.mark.parametrize(
    "name",
    [
        *("x-forwarded-for", "x-forwarded-host", "x-forwarded-anything", "forwarded", "x-real-ip", "via"),
        *("cf-connecting-ip", "tailscale-user-login", "tailscale-headers-info"),
    ],
)
def test_a_header_of_a_proxy_is_refused_and_named(name: str) -> None:
    verdict = ask(HOST, (name, ""))
    assert (verdict.code, verdict.status) == ("forwarded_request", 403)
    assert name in verdict.message


@pytest.mark.parametrize("name", ["x-forwarded", "viable", "x-real-ip-2", "authorization", "user-agent"])
def test_other_headers_are_no_sign_of_a_proxy(name: str) -> None:
    assert ask(HOST, (name, "value")).is_local


def test_what_speaks_http_1_0_is_taken_for_a_proxy_that_adds_no_header() -> None:
    request = GateRequest(method="GET", headers=(HOST,), peer="127.0.0.1", http_version="1.0")
    assert judge(request, house=HOUSE).code == "forwarded_request"


# 3. The Host

LOCAL_HOSTS = ["localhost", "LOCALHOST", "localhost.", "localhost:8000", "LocalHost.:1", "127.0.0.1", "127.0.0.1:65535"]
LOCAL_HOSTS += ["127.0.0.1.:80", "[::1]", "[::1]:8000", "localhost:9"]

BAD_HOSTS = ["evil.example", "127.0.0.1.nip.io", "localhost.evil.com", "foo.localhost", "0.0.0.0:8000", "", " "]
BAD_HOSTS += ["localhost:8000@evil", "localhost@evil", "evil@localhost", "localhost..", "localhost:", "localhost:x"]
BAD_HOSTS += [
    "localhost:123456",
    "localhost:٣",
    "127.0.0.2",
    "127.1",
    "2130706433",
    "::1",
    "[::1].",
    "[::]",
    "[::1%lo]",
]
BAD_HOSTS += [
    "localhost,evil",
    "localhost evil",
    "localhost\n",
    "localhost/",
    "http://localhost",
    "\uff4cocalhost",
    "lo\x00calhost",
]


@pytest.mark.parametrize("host", LOCAL_HOSTS)
def test_a_name_of_this_machine_is_local(host: str) -> None:
    assert ask(("host", host)).is_local


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_any_other_host_is_bad(host: str) -> None:
    verdict = ask(("host", host))
    assert (verdict.is_local, verdict.code, verdict.status) == (False, "bad_host", 400)


@pytest.mark.parametrize("headers", [(), (HOST, HOST), (HOST, ("host", "evil.example"))])
def test_exactly_one_host_is_wanted(headers: tuple[tuple[str, str], ...]) -> None:
    verdict = ask(*headers)
    assert verdict.code == "bad_host"
    assert f"has {len(headers)}" in verdict.message


@pytest.mark.parametrize("host", ["gpubox.lan", "GPUBOX.lan:8000", "[fe80::1]:8000"])
def test_an_own_name_that_others_use_too_is_not_local(host: str) -> None:
    assert ask(("host", host)).code == "protected_mode"


# 4. Other sites' pages

NAVIGATION = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))
FRAME = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"))
CROSS_SITE = ("sec-fetch-site", "cross-site")


@pytest.mark.parametrize("site", ["same-origin", "none"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_our_own_pages_and_the_address_bar_are_local(site: str, method: str) -> None:
    assert ask(HOST, ("sec-fetch-site", site), method=method).is_local


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Same-Origin", "same-origin, none"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_other_sites_pages_are_refused(site: str, method: str) -> None:
    verdict = ask(HOST, ("sec-fetch-site", site), method=method)
    assert (verdict.code, verdict.status) == ("cross_origin", 403)


def test_two_signs_of_where_a_request_comes_from_are_refused() -> None:
    assert ask(HOST, ("sec-fetch-site", "same-origin"), CROSS_SITE).code == "cross_origin"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_on_another_site_opens_our_page(method: str) -> None:
    assert ask(HOST, CROSS_SITE, *NAVIGATION, method=method).is_local


def test_a_form_on_another_site_is_refused() -> None:
    assert ask(HOST, CROSS_SITE, *NAVIGATION, method="POST").code == "cross_origin"


def test_a_frame_on_another_site_is_refused() -> None:
    assert ask(HOST, CROSS_SITE, *FRAME).code == "cross_origin"


OWN_ORIGINS = [("localhost:8000", "http://localhost:8000"), ("LOCALHOST.:8000", "http://localhost:8000")]
OWN_ORIGINS += [
    ("[::1]:8000", "http://[::1]:8000"),
    ("localhost", "http://localhost"),
    ("localhost", "https://localhost"),
]
OWN_ORIGINS += [("localhost:80", "http://localhost"), ("127.0.0.1:9000", "http://127.0.0.1:9000")]

FOREIGN_ORIGINS = [
    "https://evil.example",
    "null",
    "",
    "http://localhost",
    "http://localhost:3000",
    "http://127.0.0.1:8000",
]
FOREIGN_ORIGINS += ["http://localhost:8000.evil.example", "http://localhost:8000@evil.example", "ftp://localhost:8000"]
FOREIGN_ORIGINS += ["http://localhost:8000/", "localhost:8000", "//localhost:8000", "chrome-extension://localhost:8000"]


@pytest.mark.parametrize(("host", "origin"), OWN_ORIGINS)
def test_our_own_origin_is_local_in_browsers_without_fetch_metadata(host: str, origin: str) -> None:
    assert ask(("host", host), ("origin", origin), method="POST").is_local


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_a_foreign_origin_is_refused(origin: str) -> None:
    verdict = ask(HOST, ("origin", origin), method="POST")
    assert (verdict.code, verdict.status) == ("cross_origin", 403)


def test_two_origins_are_refused() -> None:
    own = ("origin", "http://localhost:8000")
    assert ask(HOST, own, own, method="POST").code == "cross_origin"


# What is quoted


def test_a_quoted_value_has_no_control_characters_and_at_most_100_characters() -> None:
    assert quote("a\x1b[31m\r\nb" + "x" * 200) == "a[31mb" + "x" * 94


# The door


class Recorder:
    """An ASGI application that remembers what came through."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)


class Nobody:
    """A doorman who knows no key and no account."""

    async def find_key(self, text: str) -> None:
        return None

    async def is_signed_in(self, scope: Scope) -> bool:
        return False


def make_scope(path: str = "/api/models", *, method: str = "GET", host: bytes = b"localhost", **others: Any) -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"host", host)],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {"pool": "the pool"},
        **others,
    }


def knock(scope: Scope) -> tuple[list[Scope], list[Message]]:
    """What reached the application behind the gate, and what the gate itself sent."""
    recorder, sent = Recorder(), list[Message]()

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    gate = Gate(recorder, port=8000, doorman=Nobody(), house=House(names=frozenset({"gpubox"})))
    asyncio.run(gate(scope, receive, send))
    return recorder.scopes, sent


def error_of(sent: list[Message]) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(sent[1]["body"])["error"]
    return error


def test_a_local_request_goes_on_with_its_mark_and_its_state() -> None:
    [scope], sent = knock(make_scope())
    assert scope["homelab.local"] is True
    assert scope["state"] == {"pool": "the pool"}
    assert sent == []


def test_header_names_in_any_case_are_judged() -> None:
    _, sent = knock(make_scope(headers=[(b"Host", b"localhost"), (b"X-Forwarded-For", b"1.2.3.4")]))
    assert error_of(sent)["code"] == "forwarded_request"


def test_a_refused_request_never_reaches_the_application() -> None:
    scopes, sent = knock(make_scope(host=b"evil.example"))
    assert scopes == []
    assert sent[0]["status"] == 400
    assert error_of(sent)["code"] == "bad_host"


def test_a_refusal_names_the_value_and_the_ways_in() -> None:
    _, sent = knock(make_scope(host=b"evil\x1b.example"))
    error = error_of(sent)
    assert "evil.example" in error["message"]
    assert "http://localhost:8000" in error["message"]
    assert any(
        way.startswith("From another machine: ssh -L 8000:localhost:8000") for way in error["details"]["ways_in"]
    )


def test_a_refusal_is_json_and_has_no_cors_header() -> None:
    _, sent = knock(
        make_scope(method="OPTIONS", headers=[(b"host", b"localhost"), (b"origin", b"https://evil.example")])
    )
    headers = dict(sent[0]["headers"])
    assert sent[0]["status"] == 403
    assert headers == {b"content-type": b"application/json", b"content-length": str(len(sent[1]["body"])).encode()}


@pytest.mark.parametrize(
    ("host", "type_of_error"), [(b"evil.example", "invalid_request_error"), (b"gpubox:8000", "authentication_error")]
)
def test_a_refusal_under_v1_has_the_shape_of_openai(host: bytes, type_of_error: str) -> None:
    _, sent = knock(make_scope("/v1/models", host=host))
    error = error_of(sent)
    assert error["type"] == type_of_error
    assert error["param"] is None
    assert error["code"] in {"bad_host", "protected_mode"}


@pytest.mark.parametrize(
    ("host", "address"),
    [
        (b"10.77.0.1:8000", "10.77.0.1"),
        (b"10.77.0.1", "::ffff:10.77.0.1"),
        (b"[fe80::1]:8000", "fe80::1%eth0"),
        (b"gpubox", "10.77.0.1"),
    ],
)
def test_the_address_at_which_a_request_arrived_is_known_but_not_local(host: bytes, address: str) -> None:
    scopes, sent = knock(make_scope(host=host, server=(address, 8000)))
    assert scopes == []
    assert error_of(sent)["code"] == "protected_mode"


def test_health_is_open_to_all_and_sees_nothing_of_a_stranger() -> None:
    headers = [(b"host", b"evil.example"), (b"cookie", b"sessionid=1"), (b"x-forwarded-for", b"1.2.3.4")]
    [scope], sent = knock(make_scope("/health", client=("10.77.0.2", 1), headers=headers))
    assert scope["homelab.local"] is False
    assert scope["headers"] == [(b"host", b"localhost")]
    assert sent == []


@pytest.mark.parametrize(("path", "method"), [("/health", "POST"), ("/health/", "GET"), ("/healthy", "GET")])
def test_nothing_beside_a_look_at_health_is_open(path: str, method: str) -> None:
    scopes, _ = knock(make_scope(path, method=method, client=("10.77.0.2", 1)))
    assert scopes == []


def test_a_local_request_for_health_stays_local() -> None:
    [scope], _ = knock(make_scope("/health"))
    assert scope["homelab.local"] is True


def test_a_server_on_a_unix_socket_is_local() -> None:
    [scope], _ = knock(make_scope(client=None, server=("/run/homelab.sock", None)))
    assert scope["homelab.local"] is True


@pytest.mark.parametrize("server", [("127.0.0.1", 8000), None])
def test_a_peer_that_nobody_can_name_is_refused(server: tuple[str, int] | None) -> None:
    scopes, sent = knock(make_scope(client=None, server=server, host=b"gpubox"))
    assert scopes == []
    assert error_of(sent)["code"] == "protected_mode"


def test_a_websocket_is_refused() -> None:
    scopes, sent = knock(make_scope(type="websocket"))
    assert scopes == []
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_the_lifespan_goes_through() -> None:
    [scope], _ = knock({"type": "lifespan"})
    assert scope == {"type": "lifespan"}
