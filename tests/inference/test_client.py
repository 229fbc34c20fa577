"""The shell's way to the running server, when that is not there, or goes away."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab.web import bind_owners_socket
from inference.client import ServerDown, call_server, stream_chat

EVENT = b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\n'
HALF_AN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\n\r\n" + EVENT


@pytest.fixture
def dying_server(settings, tmp_path: Path) -> Iterator[None]:
    """Says half of its answer and is gone."""
    settings.OWNERS_SOCKET = tmp_path / "web.sock"
    with bind_owners_socket(settings.OWNERS_SOCKET) as listener:
        listener.listen()

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


# The library forgets its socket where nobody answers on it.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_no_server_is_a_sentence_with_the_way_out(settings, tmp_path: Path) -> None:
    settings.OWNERS_SOCKET = tmp_path / "web.sock"
    with pytest.raises(ServerDown, match="Start it with script/server"):
        call_server("/api/models/m/load")
    bind_owners_socket(settings.OWNERS_SOCKET).close()  # what a killed server leaves behind
    with pytest.raises(ServerDown, match="Connection refused"):
        call_server("/api/models/m/load")
