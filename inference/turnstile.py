"""How many requests are in the house: each one costs memory, whether it is answered or waits."""

from collections.abc import Iterator
from contextlib import contextmanager

from inference.errors import Overloaded


class Turnstile:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = 0

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Inside for the length of the block. Raises Overloaded."""
        if self.inside >= self.limit:
            raise Overloaded(f"{self.limit} requests are being answered or wait already. Try again in a few seconds.")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
