"""Each content of an order to its place: what lies there is read, what another drive has is taken, the rest is fetched.

Whatever way a content comes, its bytes are read back from the drive and hashed before it counts.
"""

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum

from cachemgr.hands.root import Root
from registry.errors import HubError
from registry.fetch import places, transfer
from registry.fetch.landing import InUse, Landing, open_landing
from registry.fetch.order import Content, Order
from registry.fetch.progress import Ended, Progress
from registry.fetch.rereading import Rereading

_WORKERS = 8  # as many as the library has
_GRACE_SECONDS = 3.0
_WATCH_SECONDS = 0.2


class Outcome(Enum):
    """Of a try to get a content from the Hub. BROKEN_OFF: the Hub does not go on from where the file stood."""

    RIGHT = "right"
    WRONG = "wrong"
    BROKEN_OFF = "broken off"


Fill = Callable[[Landing], None]
"""Writes what a landing lacks."""


@contextmanager
def pool() -> Iterator[Executor]:
    """Nobody waits for its threads: one may hang on a connection or a drive."""
    pool = ThreadPoolExecutor(max_workers=_WORKERS)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Bringing:
    """`fetch` writes what a landing lacks from the Hub."""

    order: Order
    root: Root
    progress: Progress
    readers: Executor
    fetch: Fill

    def bring(self, content: Content) -> str:
        """Answers the path below the cache of the whole, verified file. Raises HubError, OSError."""
        while True:
            try:
                return self._keep(content) or self._take(content) or self._get(content)
            except InUse:
                self._watch_other(content)

    def _watch_other(self, content: Content) -> None:
        """What another process lands here is movement too: only a download that stands still is given up."""
        found = self.root.look_at(places.partial(self.order, content))
        self.progress.landed[content.digest] = min(found.st_size, content.size_bytes) if found else 0
        self.progress.pause(_WATCH_SECONDS)

    def _keep(self, content: Content) -> str | None:
        """What lies there under the content's name; a file that is not what its name says is removed."""
        path = places.find_lying(self.root, self.order, content)
        if path is None:
            return None
        self.progress.landed[content.digest] = content.size_bytes
        with self.root.file(path) as descriptor:
            is_right = os.fstat(descriptor).st_size == content.size_bytes
            is_right = is_right and self._reread(descriptor, content).finish(content.size_bytes) == content.digest
        if is_right:
            return path
        self._remove(self._name_of(path, content), content)
        return None

    def _name_of(self, path: str, content: Content) -> str:
        """What is removed of a wrong file: in the shared store it is another repo's too, and only our link goes."""
        return path if path.startswith(f"{self.order.folder}/") else places.blob(self.order, content)

    def _take(self, content: Content) -> str | None:
        """From another of our drives: a second name for the file, or a copy of it."""
        source, path = content.source, places.partial(self.order, content)
        if source is None:
            return None
        if not transfer.link(source, self.root, path) and source.link_only:
            raise transfer.source_failed(source, "it cannot be linked")
        if self._land(path, content, fill=lambda landing: transfer.copy(source, landing)):
            return path
        self._remove(path, content)
        raise transfer.source_failed(source, "its bytes are not what its name says")

    def _get(self, content: Content) -> str:
        """From the Hub. If the whole is wrong, what an earlier attempt left is distrusted, and all comes anew."""
        path = places.partial(self.order, content)
        is_left_over = self.root.look_at(path) is not None
        for _ in range(2):
            outcome = self._try_hub(path, content)
            if outcome is Outcome.RIGHT:
                return path
            self._remove(path, content)
            if outcome is Outcome.WRONG and not is_left_over:
                break
        raise _wrong_bytes(content)

    def _try_hub(self, path: str, content: Content) -> Outcome:
        try:
            return Outcome.RIGHT if self._land(path, content, fill=self.fetch) else Outcome.WRONG
        except transfer.StartOver:
            return Outcome.BROKEN_OFF

    def _land(self, path: str, content: Content, *, fill: Fill) -> bool:
        """True when all is there and right. What an earlier attempt left is read while the rest comes."""
        try:
            with open_landing(self.root, path, content=content, progress=self.progress) as landing:
                reading = self._reread(landing.descriptor, content)
                landing.on_write = reading.reach
                try:
                    landing.on_write(landing.size_bytes)
                    fill(landing)
                    return reading.finish(landing.size_bytes) == content.digest
                finally:
                    reading.stop()
        except OSError as error:
            if error.errno == errno.EIO:  # after a failed sync, nobody knows which bytes are on the drive
                with suppress(OSError):
                    self._remove(path, content)
            raise

    def _reread(self, descriptor: int, content: Content) -> Rereading:
        return Rereading(descriptor, content, progress=self.progress, threads=self.readers)

    def _remove(self, path: str, content: Content) -> None:
        with self.root.parent(path) as (folder, name), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        self.progress.forget(content.digest)


def bring_all(bringing: Bringing) -> dict[str, str]:
    """The file of each content, by digest. Raises what ended the first that failed."""
    with pool() as workers:
        work = {content.digest: workers.submit(bringing.bring, content) for content in bringing.order.contents}
        done, left = wait(work.values(), return_when=FIRST_EXCEPTION)
        failures = [error for each in done if (error := each.exception()) is not None]
        if failures:
            bringing.progress.end()
            wait(left, timeout=_GRACE_SECONDS)
            reasons = [each for each in failures if not isinstance(each, Ended)]
            raise bringing.progress.trouble or (reasons or failures)[0]
        return {digest: each.result() for digest, each in work.items()}


def _wrong_bytes(content: Content) -> HubError:
    message = f"{content.names[0]} has not the bytes that the Hub promised: their hash is not {content.digest[:12]}…"
    return HubError(message, code="hash_mismatch", is_permanent=False)
