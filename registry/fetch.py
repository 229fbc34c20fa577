"""The child process that downloads one repo: `python -m registry.fetch`, a line of JSON on stdin, JSON lines out.

It is a process of its own so that a drive or a connection that hangs can be killed, and so that the library's settings
(which it reads from the environment when it is imported) are this download's alone. Lines: `{"stage": ..., "bytes":
n}` twice a second, then `{"done": ...}` or `{"error": {"code", "message", "is_permanent"}}`.
"""

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cachemgr.digests import digest_of
from cachemgr.layout import repo_folder
from registry.errors import HubError
from registry.hub import HubFile

_REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class Order:
    """`cache_path` is the cache's directory; the files are those of one commit."""

    repo_id: str
    commit: str
    ref: str
    files: tuple[HubFile, ...]
    cache_path: str
    endpoint: str

    @property
    def repo_path(self) -> Path:
        return Path(self.cache_path) / repo_folder(self.repo_id)

    @property
    def snapshot_path(self) -> Path:
        return self.repo_path / "snapshots" / self.commit


class Progress:
    """Tells the parent what has landed: finished files, and what the unfinished ones hold on the disk."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.stage = "downloading"
        self.finished: set[str] = set()
        self.checked_bytes = 0
        self.total_bytes = sum({file.digest: file.size_bytes for file in order.files}.values())

    def bytes_done(self) -> int:
        if self.stage == "verifying":
            return self.checked_bytes
        sizes = {file.digest: file.size_bytes for file in self.order.files if file.digest in self.finished}
        return sum(sizes.values()) + sum(_partial_sizes(self.order.repo_path / "blobs"))

    def report(self) -> None:
        say(stage=self.stage, bytes=min(self.bytes_done(), self.total_bytes), total=self.total_bytes)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(_REPORT_SECONDS):
                self.report()

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def fetch(order: Order, *, token: str) -> None:
    """Downloads what is missing, then hashes everything, makes it durable, and names the ref."""
    _set_up_library()
    remove_partials(order)
    progress = Progress(order)
    with progress.reporting():
        for file in order.files:
            _fetch_file(order, file, token=token)
            progress.finished.add(file.digest)
        progress.report()
        progress.stage = "verifying"
        verify(order, on_bytes=lambda count: setattr(progress, "checked_bytes", progress.checked_bytes + count))
        progress.report()
    make_durable(order)
    _write_ref(order)
    say(done={})


def _set_up_library() -> None:
    """Blocks of 1 MiB, not 10: progress is smooth, and a slow line does not look like one that stalls."""
    from huggingface_hub import constants

    constants.DOWNLOAD_CHUNK_SIZE = 1 << 20


def _fetch_file(order: Order, file: HubFile, *, token: str) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(
        order.repo_id,
        file.name,
        revision=order.commit,
        cache_dir=order.cache_path,
        endpoint=order.endpoint,
        token=token or False,
    )


def verify(order: Order, *, on_bytes: Callable[[int], None]) -> None:
    """Every file lies inside the repo's folder and has the promised size and hash. Bad bytes are removed."""
    for file in order.files:
        path = Path(os.path.realpath(order.snapshot_path / file.name))
        if not path.is_relative_to(os.path.realpath(order.repo_path)):
            raise HubError(f"{file.name} lies outside of its repo.", code="unsafe_entry", is_permanent=True)
        found = digest_of(path, like=file.digest, on_bytes=on_bytes)
        if found != file.digest:
            path.unlink()
            (order.snapshot_path / file.name).unlink(missing_ok=True)
            message = f"{file.name} has not the bytes that the Hub promised ({found[:12]}, not {file.digest[:12]})."
            raise HubError(message, code="hash_mismatch", is_permanent=False)


def make_durable(order: Order) -> None:
    """Files first, then the folders that name them: `ready` is a promise that a power cut must not break."""
    for file in order.files:
        _sync(Path(os.path.realpath(order.snapshot_path / file.name)))
    for folder, _, _ in os.walk(order.repo_path):
        _sync(Path(folder))
    _sync(Path(order.cache_path))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_ref(order: Order) -> None:
    if order.ref == order.commit:
        return
    path = order.repo_path / "refs" / order.ref
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(order.commit, encoding="ascii")
    _sync(path)
    _sync(path.parent)


def remove_partials(order: Order) -> None:
    """What a killed download left: the library never goes on with another process's partial file."""
    for path in (order.repo_path / "blobs").glob("*.incomplete"):
        path.unlink(missing_ok=True)


def _partial_sizes(blobs: Path) -> Iterator[int]:
    for path in blobs.glob("*.incomplete"):
        try:
            yield path.stat().st_size
        except FileNotFoundError:
            continue  # it was finished and renamed between the two calls


def explain(error: Exception, order: Order) -> HubError:
    """Any failure as a code, a sentence, and whether another attempt can help."""
    from huggingface_hub.errors import HfHubHTTPError

    from registry.hub import explain_refusal, unreachable

    if isinstance(error, HubError):
        return error
    if isinstance(error, HfHubHTTPError):
        return explain_refusal(error, repo_id=order.repo_id, revision=order.commit)
    code = _disk_trouble(error)
    if code == "insufficient_space":
        return HubError(f"The disk of {order.cache_path} is full.", code=code, is_permanent=True)
    if code:
        return HubError(f"{order.cache_path} cannot be written: {error}", code=code, is_permanent=True)
    return unreachable(order.endpoint, error)


_DISK_CODES = {
    errno.ENOSPC: "insufficient_space",
    errno.EDQUOT: "insufficient_space",
    errno.EFBIG: "file_too_big_for_drive",
    errno.EROFS: "drive_read_only",
    errno.EACCES: "drive_read_only",
    errno.EIO: "drive_error",
}


def _disk_trouble(error: Exception) -> str:
    """By errno, anywhere in the chain, and by text: the library wraps some of them."""
    if "No space left" in str(error):
        return "insufficient_space"
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in _DISK_CODES:
            return _DISK_CODES[link.errno]
        link = link.__cause__ or link.__context__
    return ""


def die_with_parent() -> None:
    """The parent holds the other end of stdin: its end is ours, however it comes."""

    def wait_for_end() -> None:
        while sys.stdin.readline():
            continue
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()


def main() -> int:
    data = json.loads(sys.stdin.readline())
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    order = Order(**{**data, "files": tuple(HubFile(**file) for file in data["files"])})
    try:
        fetch(order, token=os.environ.get("HF_TOKEN", ""))
    except Exception as error:
        remove_partials(order)
        told = explain(error, order)
        say(error={"code": told.code, "message": told.message, "is_permanent": told.is_permanent})
        return 1
    except SystemExit:  # the parent asked for the end
        remove_partials(order)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
