"""The line to the Hub, for all that huggingface_hub asks: no answer is read without end, and no redirect leads inward.

A hub, or whoever sits between, could send metadata until the memory is full, or have this machine ask its neighbours.
"""

import ipaddress
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cachemgr.units import format_bytes
from registry.errors import HubError

if TYPE_CHECKING:
    from httpx2 import Client, Request, Response

_MOST_BYTES = 16 * 10**6  # the list of 10,000 files takes 3 MB
_MOST_BYTES_OF_AN_ERROR = 10**6
_PATIENCE = 2
"""So many times as long as it may be silent, an answer may take in all."""
_USUAL_SECONDS = 30.0

NOWHERE, LOOPBACK, NEIGHBOURS, WORLD = range(4)
_OF_NEIGHBOURS = ("local", "lan", "home", "internal", "arpa", "localdomain")


@lru_cache(maxsize=1)
def use_strict_line(endpoint: str, *, has_files: bool) -> None:
    """From now on, in this process. `has_files`: files of any size come over it too, and who reads them counts."""
    from huggingface_hub import set_client_factory

    set_client_factory(lambda: _make_client(endpoint, has_files=has_files))


def _make_client(endpoint: str, *, has_files: bool) -> "Client":
    from huggingface_hub.utils._http import default_client_factory

    def check(request: "Request") -> None:
        refuse_detour(str(request.url), endpoint=endpoint)
        request.headers["Accept-Encoding"] = "identity"

    def bound(response: "Response") -> None:
        if not (has_files and response.status_code in {200, 206}):
            _bound(response, endpoint=endpoint)

    client = default_client_factory()
    asked, answered = client.event_hooks["request"], client.event_hooks["response"]
    client.event_hooks = {"request": [*asked, check], "response": [*answered, bound]}
    return client


def _bound(response: "Response", *, endpoint: str) -> None:
    from httpx2 import SyncByteStream

    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":  # a megabyte can become a gigabyte
        raise _endless(endpoint, f"an answer that is packed ({encoding[:20]}) though nobody asked for that")
    source = response.stream
    assert isinstance(source, SyncByteStream)
    stream: SyncByteStream = source
    most_bytes = _MOST_BYTES if response.is_success else _MOST_BYTES_OF_AN_ERROR
    silent_seconds = response.request.extensions.get("timeout", {}).get("read") or _USUAL_SECONDS
    until = time.monotonic() + _PATIENCE * silent_seconds

    class Bounded(SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            sent_bytes = 0
            for block in stream:
                sent_bytes += len(block)
                if sent_bytes > most_bytes:
                    raise _endless(endpoint, f"more than {format_bytes(most_bytes)}")
                if time.monotonic() > until:
                    raise _endless(endpoint, f"for more than {_PATIENCE * silent_seconds:.0f} s")
                yield block

        def close(self) -> None:
            stream.close()

    response.stream = Bounded()


def refuse_detour(url: str, *, endpoint: str) -> None:
    """Raises HubError where a redirect of this endpoint leads to what is nearer to this machine than it is, or no
    more encrypted."""
    target, origin = urlsplit(url), urlsplit(endpoint)
    is_plain = target.scheme == "http" and origin.scheme != "https"
    if target.scheme != "https" and not is_plain:
        raise _detour(endpoint, f"a {target.scheme}: address")
    here, there = origin.hostname or "", target.hostname or ""
    if there != here and tell_reach(there) < tell_reach(here):
        raise _detour(endpoint, there[:100] or "nowhere")


def tell_reach(host: str) -> int:
    """Where a name or an address lies, by what it says: NOWHERE, LOOPBACK, NEIGHBOURS or WORLD. Asks no name server."""
    with suppress(ValueError):
        return _tell_reach_of_address(ipaddress.ip_address(host))
    *_, last = labels = host.rstrip(".").lower().split(".")
    if last == "localhost":
        return LOOPBACK
    if not last or last[0].isdigit():
        return NOWHERE  # an address in a form that some libraries understand
    return NEIGHBOURS if len(labels) == 1 or last in _OF_NEIGHBOURS else WORLD


def _tell_reach_of_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return LOOPBACK
    if address.is_link_local or address.is_unspecified or address.is_multicast or address.is_reserved:
        return NOWHERE
    return WORLD if address.is_global else NEIGHBOURS


def _endless(endpoint: str, how: str) -> HubError:
    message = f"The Hub at {endpoint} sends {how}, where a short and plain answer is due. It was hung up on."
    return HubError(message, code="hub_hostile", is_permanent=True)


def _detour(endpoint: str, where: str) -> HubError:
    message = (
        f"The Hub at {endpoint} sends us on to {where}, where no model can be. "
        "Is HF_ENDPOINT right, and does this network ask for a login first?"
    )
    return HubError(message, code="hub_hostile", is_permanent=True)
