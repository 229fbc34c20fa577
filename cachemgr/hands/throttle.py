"""A limit in bytes per second, for all that goes through one process."""

import threading
import time

_BURST_SECONDS = 0.5


class Throttle:
    """Of what several threads take together. `rate_limit` is None for as fast as it goes."""

    def __init__(self, rate_limit: int | None) -> None:
        self.rate_limit = rate_limit
        self._due = time.monotonic()
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> float:
        """How many seconds to wait. Time that was lost elsewhere, as in a sync, is made up for, half a second of it."""
        if not self.rate_limit:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._due = max(self._due, now - _BURST_SECONDS) + size_bytes / self.rate_limit
            return max(0.0, self._due - now)
