"""Signs of life: who waits for this process takes silence for a drive that hangs.

Whatever asks a drive says `pulse.beat()` when it was answered, so that each step of any task is heard, however long it
takes to read, weigh or remove very many names. Bytes on their way are told by their own Pace.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[..., None]
_EVERY_SECONDS = 1.0


def _to_nobody(**line: object) -> None:
    """Where nobody waits."""


class Pulse:
    """Of this process, which has one master."""

    def __init__(self) -> None:
        self._say: Say = _to_nobody
        self._said_at = 0.0

    @contextmanager
    def heard_by(self, say: Say) -> Iterator[None]:
        """`say` gets a line a second at most, while there is life in the block."""
        before, self._say, self._said_at = self._say, say, time.monotonic()
        try:
            yield
        finally:
            self._say = before

    def beat(self) -> None:
        """A drive answered."""
        now = time.monotonic()
        if now - self._said_at > _EVERY_SECONDS:
            self._said_at = now
            self._say(alive=True)


pulse = Pulse()
