"""The shell's way to the running server, when that is not there, or goes away."""

import socket
import threading
from collections.abc import Iterator

import pytest

from inference.client import ServerDown, call_server, stream_chat
from tests.e2e.server import free_port

EVENT = b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\n'
HALF_AN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\n\r\n" + EVENT


@pytest.fixture
def dying_server(settings) -> Iterator[None]:
    """Says half of its answer and is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings.HOST, settings.PORT = "127.0.0.1", listener.getsockname()[1]

        def die() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(HALF_AN_ANSWER)

        thread = threading.Thread(target=die)
        thread.start()
        yield
        thread.join()


def test_a_server_that_goes_away_in_the_middle_is_a_sentence_after_what_it_said(dying_server) -> None:
    pieces = stream_chat("m", [{"role": "user", "content": "x"}])
    assert next(pieces) == "Hel"
    with pytest.raises(ServerDown, match="went away in the middle"):
        next(pieces)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_no_server_is_a_sentence_with_the_way_out(settings, host) -> None:
    settings.HOST, settings.PORT = host, free_port()
    with pytest.raises(ServerDown, match="Start it with script/server"):
        call_server("/api/models/m/load")
