"""Bodies: what is refused, how soon, and that whoever is refused gets the answer. Through the web process's own server."""

import json
import socket
import threading
import time
from typing import Any

import pytest

from homelab import bodies
from homelab.bodies import MIB, Bodies, InvalidJson, parse_json
from homelab.gate import Receive, Scope, Send
from tests.homelab.test_web import echo, running, talk

JSON = {"Content-Type": "application/json"}


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers how many bytes and messages its body had."""
    if scope["type"] == "lifespan":
        return await echo(scope, receive, send)
    sizes, has_more = [], True
    while has_more:
        message = await receive()
        sizes.append(len(message["body"]))
        has_more = message["more_body"]
    body = json.dumps({"bytes": sum(sizes), "messages": len(sizes)}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def head(path: str = "/api/models", **headers: str) -> bytes:
    lines = {"Host": "localhost", "Connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return f"POST {path} HTTP/1.1\r\n{''.join(f'{name}: {value}{chr(13)}{chr(10)}' for name, value in lines.items())}\r\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def read(answer: bytes) -> tuple[int, dict[str, Any]]:
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)


def send_whole(body: bytes, *, path: str = "/api/models", **headers: str) -> tuple[int, dict[str, Any]]:
    told = {"Content_Type": "application/json", "Content_Length": str(len(body))} | headers
    told = {name: value for name, value in told.items() if value}
    with running(Bodies(tell)) as port:
        return read(talk(port, head(path, **told) + body))


# What is taken


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"']
)
def test_json_is_handed_on_whole(kind: str) -> None:
    body = b'{"a": "' + b"x" * 500_000 + b'"}'
    assert send_whole(body, Content_Type=kind) == (200, {"bytes": len(body), "messages": 1})


@pytest.mark.parametrize("path", ["/api/cache/check", "/v1/models", "/models/load"])
@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded", "text/plain"])
def test_an_empty_body_is_fine_whatever_it_is_called(path: str, kind: str) -> None:
    assert send_whole(b"", path=path, Content_Type=kind)[0] == 200


def test_a_form_of_our_own_pages_is_no_json() -> None:
    assert send_whole(b"a=b", path="/admin/x/", Content_Type="application/x-www-form-urlencoded")[0] == 200


# What is refused


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp",
     "application/json; charset=utf-16", "application/merge-patch+json", "*/*"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/models", "/v1/models", "/models/load"])
def test_what_does_not_call_itself_json_is_refused(path: str, kind: str) -> None:
    status, body = send_whole(b'{"a": 1}', path=path, Content_Type=kind)
    assert (status, body["error"]["code"]) == (415, "unsupported_media_type")
    assert "application/json" in body["error"]["message"]


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "not JSON"), (b"nul", "not JSON"), (b'{"a": 1} x', "not JSON"), (b"{'a': 1}", "not JSON"),
        (b'{"a": "\xff"}', "UTF-8"), (b"\xff\xfe{\x00}\x00", "UTF-8"), (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"), (b'{"a": "\\ud800"}', "surrogate"), (b'{"\\uDFFF": 1}', "surrogate"),
        (b'{"a": "\xc0\xaf"}', "UTF-8"),
        (b'{"a": 1, "a": 2}', "'a' twice"), (b'{"b": [{"a": 1, "\\u0061": 2}]}', "'a' twice"),
        (b'{"a": NaN}', "NaN"), (b'{"a": Infinity}', "Infinity"), (b'{"a": -Infinity}', "-Infinity"),
        (b"1" * 5000, "digits"), (nested(65), "too deep"), (nested(100_000), "too deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "too deep"), (b'{"a":' * 500_0 + b"1" + b"}" * 500_0, "too deep"),
        (b"[" * 65 + b'"]]]"' + b"]" * 65, "too deep"), (b'"' + b"x" * 10, "not JSON"),
    ],
)  # fmt: skip
def test_what_has_no_one_meaning_is_refused(body: bytes, word: str) -> None:
    with pytest.raises(InvalidJson) as refused:
        parse_json(body)
    assert refused.value.code == "invalid_json" and word in refused.value.message and len(refused.value.message) < 200


def test_a_name_that_comes_again_at_the_very_end_costs_no_more_than_reading() -> None:
    many = ",".join(f'"{number}": 1' for number in range(100_000))
    started = time.process_time()
    with pytest.raises(InvalidJson, match="'99999' twice"):
        parse_json(f'{{{many}, "99999": 2}}'.encode())
    assert time.process_time() - started < 5  # by counting it was over two minutes


@pytest.mark.parametrize(
    "body",
    [nested(64), b'{"a":' * 64 + b"1" + b"}" * 64, b'["' + b"[" * 1000 + b'"]', b'["\\"' + b"[{" * 1000 + b'"]',
     b"[" + b"[[]]," * 5000 + b"[]]", b'{"a": {"b": 1}, "c": {"b": 2}}', b'{"a": "\\ud83d\\ude00"}', b'"\\\\ud800"'],
)  # fmt: skip
def test_what_is_only_large_or_odd_is_taken(body: bytes) -> None:
    assert parse_json(body) == json.loads(body)


@pytest.mark.parametrize("path", ["/api/models", "/v1/models"])
def test_bad_json_is_refused_in_the_shape_of_its_api(path: str) -> None:
    status, body = send_whole(b'{"a": NaN}', path=path)
    assert (status, body["error"]["code"]) == (400, "invalid_json")
    assert body["error"].keys() == (
        {"code", "message", "details"} if "api" in path else {"message", "type", "param", "code"}
    )


# While it is read


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/api/models", MIB),
        ("/v1/models", MIB),
        ("/v1/chat/completions", 8 * MIB),
        ("/admin/login/", 16 * 1024),
        ("/health", 1024),
        ("/static/homelab/icon.svg", 1024),
        ("/x", MIB),
    ],
)
def test_an_honest_length_that_is_too_much_is_refused_before_a_byte_of_it_comes(path: str, limit: int) -> None:
    with running(Bodies(tell)) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head(path, Content_Type="application/json", Content_Length=str(limit + 1)))
        status, body = read_some(sock)
    assert (status, body["error"]["code"]) == (413, "body_too_large")
    assert str(limit) in body["error"]["message"]


def read_some(sock: socket.socket) -> tuple[int, dict[str, Any]]:
    """The answer, as soon as it is whole, while the connection is open."""
    answer = b""
    while not answer.endswith(b"}}") and (part := sock.recv(65536)):
        answer += part
    return read(answer)


def test_a_body_of_parts_is_refused_when_it_passes_the_limit() -> None:
    with running(Bodies(tell)) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head(Content_Type="application/json", Transfer_Encoding="chunked"))
        for _ in range(17):
            sock.sendall(chunk(b"x" * 65536))
        assert read_some(sock)[0] == 413


def test_whoever_sends_all_before_it_looks_gets_the_refusal_too() -> None:
    """A connection that is cut with bytes unread would lose the answer."""
    status, body = send_whole(b"x" * (20 * MIB))
    assert (status, body["error"]["code"]) == (413, "body_too_large")


def test_parts_that_call_themselves_something_else_are_refused_at_the_first() -> None:
    with running(Bodies(tell)) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head(Transfer_Encoding="chunked") + chunk(b"x"))
        assert read_some(sock)[0] == 415


def test_a_body_that_does_not_come_is_not_waited_for_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(bodies, "_DRAIN_SECONDS", 0.1)
    began = time.monotonic()
    with running(Bodies(tell)) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head(Content_Type="application/json", Content_Length="100") + b'{"a"')
        assert read_some(sock)[0] == 408
        assert sock.recv(1) == b""
    assert time.monotonic() - began < 5


def test_whoever_leaves_in_the_middle_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    with running(Bodies(tell)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(head(Content_Type="application/json", Content_Length="100") + b"{")
        assert talk(port, head(Content_Length="0")).startswith(b"HTTP/1.1 200")
    assert "Exception in ASGI application" not in caplog.text


@pytest.mark.parametrize(("body", "is_elsewhere"), [(b"[1]", False), (b"[" + b"1," * 50_000 + b"1]", True)])
async def test_a_large_body_is_parsed_where_it_holds_up_nobody(monkeypatch, body: bytes, is_elsewhere: bool) -> None:
    threads = list[int]()
    monkeypatch.setattr(bodies, "parse_json", lambda body: threads.append(threading.get_ident()))
    await bodies.parse_body(body)
    assert (threads != [threading.get_ident()]) == is_elsewhere


def test_what_django_gets_it_keeps_in_memory(settings) -> None:
    assert bodies.USUAL_BYTES <= settings.FILE_UPLOAD_MAX_MEMORY_SIZE
