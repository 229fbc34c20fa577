"""How far a download is, for all of its threads: what landed, what was read back, and whether it has to end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cachemgr.hands.errors import Trouble
from cachemgr.hands.root import Root
from cachemgr.hands.throttle import Throttle
from registry.fetch.order import Order

Say = Callable[..., None]

_SAY_SECONDS = 0.5
_LOOK_EVERY = 4  # at each fourth report, whether the drive is still there


class Ended(Exception):
    """Another thread met the trouble that ends the download."""


class Progress:
    """`landed` and `checked` hold bytes by content; each has one writer."""

    def __init__(self, order: Order, *, say: Say) -> None:
        self.total_bytes, self.say = order.size_bytes, say
        self.landed: dict[str, int] = {}
        self.checked: dict[str, int] = {}
        self.trouble: Trouble | None = None
        self._over = threading.Event()
        self._rate = Throttle(order.rate_limit)

    @property
    def missing_bytes(self) -> int:
        return max(0, self.total_bytes - sum(tuple(self.landed.values())))

    def tell(self) -> None:
        """Reading back is a stage of its own once all bytes are there; before that it keeps pace with them."""
        landed_bytes = sum(tuple(self.landed.values()))
        is_whole = landed_bytes >= self.total_bytes
        done_bytes = sum(tuple(self.checked.values())) if is_whole else landed_bytes
        stage = "verifying" if is_whole else "downloading"
        self.say(stage=stage, bytes=min(done_bytes, self.total_bytes), total=self.total_bytes)

    def forget(self, digest: str) -> None:
        """What had come of a content is gone."""
        self.landed[digest] = self.checked[digest] = 0

    @contextmanager
    def telling(self, root: Root) -> Iterator[None]:
        """Reports twice a second, and ends the download when its drive went away."""
        thread = threading.Thread(target=self._repeat, args=[root], daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.end()
            thread.join()

    def _repeat(self, root: Root) -> None:
        count = 0
        while not self._over.wait(_SAY_SECONDS):
            self.tell()
            count += 1
            if count % _LOOK_EVERY == 0:
                self._look_at(root)

    def _look_at(self, root: Root) -> None:
        try:
            root.still_there()
        except Trouble as trouble:
            self.trouble = trouble
            self.end()

    def end(self) -> None:
        self._over.set()

    def go_on(self) -> None:
        """Raises what ended it."""
        if self._over.is_set():
            raise self.trouble or Ended

    def pause(self, seconds: float) -> None:
        self._over.wait(seconds)
        self.go_on()

    def keep_pace(self, size_bytes: int) -> None:
        """Waits where the bytes came faster than they may."""
        self.go_on()
        wait_seconds = self._rate.take(size_bytes)
        if wait_seconds > 0:
            self.pause(wait_seconds)
