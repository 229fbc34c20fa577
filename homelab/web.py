"""The web process: `python -m homelab.web` binds the sockets itself and gives them to uvicorn.

Binding here, not in uvicorn, gives `localhost` both of its addresses and a taken port a sentence of ours.
"""

import argparse
import asyncio
import errno
import json
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import h11
import psutil
import uvicorn
from django.core.exceptions import ImproperlyConfigured
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.supervisors import ChangeReload

from homelab.errors import HomelabError
from homelab.gate import Application

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
REQUEST_HEAD_SECONDS = 10
REQUEST_HEAD_BYTES = 64 * 1024
SILENT_READER_SECONDS = 65
"""A little more than `limits.WRITE_SECONDS`: where a stream is cut off, the log says so first."""
GRACEFUL_STOP_SECONDS = 3
WRONG_START = 2


class CannotListen(HomelabError):
    """The address of the settings HOST and PORT cannot be had; the message says why and what to do."""

    code = "cannot_listen"


# Addresses and sockets


def bind_sockets(host: str, *, port: int) -> list[socket.socket]:
    """Bound sockets, not listening yet. A loopback name means 127.0.0.1 and, where this machine has it, ::1."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(_bind(family, address, port=port)) for family, address in addresses_of(host)]
        opened.pop_all()
    return sockets


def addresses_of(host: str) -> list[tuple[socket.AddressFamily, str]]:
    if host.lower() in LOOPBACK_NAMES:
        both = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
        return both if _has_ipv6_loopback() else both[:1]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise CannotListen(_no_address(host)) from error
    return [(family, str(address[0])) for family, _, _, _, address in found]


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _bind(family: socket.AddressFamily, address: str, *, port: int) -> socket.socket:
    # Named as TCP: asyncio switches Nagle's algorithm off for such sockets alone, and with it an answer in two writes,
    # or a streamed token, waits up to 40 ms for the client's acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        raise CannotListen(explain(error, address, port=port)) from error
    return sock


def bind_owners_socket(path: Path) -> socket.socket:
    """The shell's way in, whatever HOST, HTTPS and LOCAL_TRUST say: who may open it may read the server's data, too."""
    path.unlink(missing_ok=True)  # of a server that was killed: none runs, for the port is ours
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        sock.close()
        raise CannotListen(f"The socket {path} cannot be made: {error.strerror}. Correct DATA_DIR.") from error
    return sock


def explain(error: OSError, address: str, *, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else port - 1
        return (
            f"Port {port} is taken{_holder(port)}. Stop that program, or choose another port: "
            f"PORT={other} script/server"
        )
    if error.errno == errno.EACCES:
        return f"Port {port} may be used by root only. Choose a port from 1024 up: PORT=8000 script/server"
    if error.errno == errno.EADDRNOTAVAIL:
        return _no_address(address)
    return f"{address}, port {port}, cannot be used: {error.strerror}. Correct HOST and PORT in .env."


def _no_address(host: str) -> str:
    return f"HOST is {host!r}, which is no address of this machine. Set HOST=127.0.0.1 in .env."


def _holder(port: int) -> str:
    """` by NAME (pid N)`, or nothing where the system does not tell us (another user's program)."""
    for connection in psutil.net_connections("tcp"):
        is_listening = connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,)
        if is_listening and connection.pid:
            try:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                return ""
    return ""


# The server


class StrictHttp(H11Protocol):
    """uvicorn's HTTP/1.1 with our error shape for what is no HTTP, and time limits: on a request's head, on what still
    comes of a body that was answered already, and on a client that reads nothing."""

    _head_deadline: asyncio.TimerHandle | None = None
    _reader_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        self._forget_reader()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader_deadline = self.loop.call_later(SILENT_READER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget_reader()
        super().resume_writing()

    def _forget_reader(self) -> None:
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()
            self._reader_deadline = None

    def _watch_head(self) -> None:
        """The time runs while a head is incomplete, or a body goes on that has its answer; more bytes give no more."""
        if not (self.conn.their_state is h11.IDLE or self._is_answered()):
            self._forget_head()
        elif self._head_deadline is None and not self.transport.is_closing():
            self._head_deadline = self.loop.call_later(REQUEST_HEAD_SECONDS, self.transport.close)

    def _is_answered(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return self.conn.their_state is h11.SEND_BODY and cycle is not None and cycle.response_complete

    def _forget_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def send_400_response(self, msg: str) -> None:
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's own type hides that it begins as None
        if cycle is not None and not cycle.response_complete:  # its body is what is no HTTP
            cycle.disconnected = True
            cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.write(self._bad_request())
        self.transport.close()

    def _bad_request(self) -> bytes:
        message = "This is no valid HTTP/1.1 request: it is malformed, too large, or has no Host or several."
        body = json.dumps({"error": {"code": "bad_request", "message": message, "details": {}}}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        events = [
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ]
        return b"".join(self.conn.send(event) or b"" for event in events)


def server_config(app: Application | str = "homelab.asgi:application", *, reload: bool = False) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=StrictHttp,
        loop="asyncio",  # of 200 streams at full speed, uvloop let 12 begin before the first ones had ended
        ws="none",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACEFUL_STOP_SECONDS,
        h11_max_incomplete_event_size=REQUEST_HEAD_BYTES,
        reload=reload,
    )


def serve(*, reload: bool) -> int:
    from homelab import settings  # a wrong value is raised here, where main() turns it into a sentence

    sockets = [*bind_sockets(settings.HOST, port=settings.PORT), bind_owners_socket(settings.OWNERS_SOCKET)]
    server = uvicorn.Server(server_config(reload=reload))
    if reload:
        ChangeReload(server.config, target=server.run, sockets=sockets).run()
        return 0
    server.run(sockets=sockets)
    return 0 if server.started else 1


def main(*, reload: bool = False) -> int:
    """The exit code: 2 for a wrong setting or an address that cannot be had."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "homelab.settings")
    try:
        return serve(reload=reload)
    except (ImproperlyConfigured, CannotListen) as error:
        print(f"The web process cannot start: {error}", file=sys.stderr)
        return WRONG_START
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m homelab.web", description="Runs the web process alone.")
    parser.add_argument("--reload", action="store_true", help="start again when a source file changes")
    sys.exit(main(reload=parser.parse_args().reload))
