"""Bytes from the Hub or from another of our drives into a landing, from where it stands.

The library's session and headers are used, but not its own download: that one begins a file anew in each process, ends
at 50 GB, and cannot be told how many bytes are wanted at most.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cachemgr.hands.errors import Trouble
from cachemgr.hands.root import Root, open_root
from registry.errors import HubError
from registry.fetch.landing import Landing
from registry.fetch.order import Source
from registry.hub import PASSING, retry_after_seconds

if TYPE_CHECKING:
    from httpx2 import Response

_PIECE_BYTES = 8 << 30  # what one request asks for: the Hub's servers refuse answers over 50 GB
_PAUSES_SECONDS = (0.5, 1.0, 2.0)
_PATIENCE_SECONDS = 20.0  # a longer Retry-After is for the queue
_TIMEOUT_SECONDS = 20.0
_COPY_BYTES = 1 << 20


class StartOver(Exception):
    """The Hub does not go on where the file stands: its first byte is the next."""


def download(url: str, landing: Landing, *, headers: Mapping[str, str]) -> None:
    """Until it is full. Whatever comes renews the patience; after three vain tries it ends with what the last one met.
    Raises StartOver, HubError, the library's errors, OSError."""
    vain = 0
    while not landing.is_full:
        before = landing.size_bytes
        error = _try_piece(url, landing, headers=headers)
        vain = 0 if landing.size_bytes > before else vain + 1
        if error is not None or vain > 0:
            landing.progress.pause(_pause_after(error or _says_nothing(landing), vain=vain))


def _try_piece(url: str, landing: Landing, *, headers: Mapping[str, str]) -> Exception | None:
    """What went wrong on the way; None where all came that was asked for, or the answer ended early."""
    from httpx2 import TransportError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        _take_piece(url, landing, headers=headers)
    except (TransportError, HfHubHTTPError) as error:
        return error
    return None


def _pause_after(error: Exception, *, vain: int) -> float:
    """Raises the error where another try is of no use, or has to wait for longer than a process should."""
    response = getattr(error, "response", None)
    asked = retry_after_seconds(response)
    is_final = response is not None and response.status_code not in PASSING
    if is_final or vain > len(_PAUSES_SECONDS) or asked > _PATIENCE_SECONDS:
        raise error
    return max(asked, _PAUSES_SECONDS[max(0, vain - 1)])


def _says_nothing(landing: Landing) -> HubError:
    message = f"The Hub answers, but sends nothing of {landing.content.names[0]}."
    return HubError(message, code="hub_error", is_permanent=False)


def _take_piece(url: str, landing: Landing, *, headers: Mapping[str, str]) -> None:
    begin = landing.size_bytes
    end = min(begin + _PIECE_BYTES, landing.content.size_bytes)
    is_part = begin > 0 or end < landing.content.size_bytes
    asked = {"Range": f"bytes={begin}-{end - 1}"} if is_part else {}
    with _stream(url, headers={**headers, **asked}) as response:
        if not _begins_at(begin, response):
            raise StartOver
        for block in response.iter_raw():
            landing.write(block)


@contextmanager
def _stream(url: str, *, headers: Mapping[str, str]) -> "Iterator[Response]":
    from huggingface_hub import get_session, hf_raise_for_status

    with get_session().stream("GET", url, headers=dict(headers), timeout=_TIMEOUT_SECONDS) as response:
        if response.status_code != 416:
            hf_raise_for_status(response)
        yield response


def _begins_at(begin: int, response: "Response") -> bool:
    if response.status_code == 206:
        return bool(response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"))
    return response.status_code == 200 and begin == 0


def copy(source: Source, landing: Landing) -> None:
    """What is lacking, from a file on one of our drives. Raises HubError (source_failed) where it cannot be read."""
    for block in _read(source, begin=landing.size_bytes):
        landing.write(block)


def _read(source: Source, *, begin: int) -> Iterator[bytes]:
    try:
        with open_root({"path": source.path, "uuid": source.uuid}) as root, root.file(source.name) as descriptor:
            os.lseek(descriptor, begin, os.SEEK_SET)
            while block := os.read(descriptor, _COPY_BYTES):
                yield block
    except (Trouble, OSError) as error:
        raise source_failed(source, f"it cannot be read ({error})") from error


def link(source: Source, root: Root, path: str) -> bool:
    """Gives the file another name below `root`, where both lie on a filesystem that takes hard links. No byte is
    written."""
    try:
        with (
            open_root({"path": source.path, "uuid": source.uuid}) as other,
            other.parent(source.name) as (there, name),
            root.parent(path) as (here, new_name),
        ):
            os.link(name, new_name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
    except FileExistsError:
        return True  # by an earlier attempt
    except (Trouble, OSError):
        return False
    return True


def source_failed(source: Source, why: str) -> HubError:
    message = f"{source.name} in {source.path} has the same content, but {why}. It is fetched from the Hub instead."
    return HubError(message, code="source_failed", is_permanent=False)
