"""Who asked a proxy that the owner named in TRUSTED_PROXIES. Pure.

Nobody else's X-Forwarded-For and X-Forwarded-Proto are believed, and of a chain only what trusted proxies wrote: it is
read from its end, where the last of them added whom it saw.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from homelab.addresses import Network, parse_address
from homelab.gate.request import GateRequest

FORWARDING_HEADERS = frozenset(
    {
        "forwarded",
        "via",
        "cdn-loop",
        "true-client-ip",
        "fly-client-ip",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
    }
)
FORWARDING_PREFIXES = ("x-forwarded-", "x-original-", "x-envoy-", "x-azure-", "cf-", "tailscale-")


def is_forwarding(name: str) -> bool:
    """Does a header of this name, in lower case, say that somebody passed the request on?"""
    return name in FORWARDING_HEADERS or name.startswith(FORWARDING_PREFIXES)


@dataclass(frozen=True, slots=True)
class Proxies:
    networks: tuple[Network, ...] = ()

    def trusts(self, address: str) -> bool:
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self.networks)

    def unwrap(self, request: GateRequest) -> GateRequest:
        """The request as its sender made it, where a trusted proxy brings it; any other as it is."""
        if request.peer is None or not self.trusts(request.peer):
            return request
        return replace(
            request,
            peer=self._sender(request.values("x-forwarded-for"), proxy=request.peer),
            scheme="https" if request.values("x-forwarded-proto") == ["https"] else "http",
            headers=tuple(header for header in request.headers if not is_forwarding(header[0])),
            is_proxied=True,
        )

    def _sender(self, lines: Iterable[str], *, proxy: str) -> str:
        """The last hop that is no trusted proxy. Behind what is no address nobody is known, so its reporter counts."""
        sender = proxy
        for hop in reversed(",".join(lines).split(",")):
            address = parse_address(_without_port(hop.strip()))
            if address is None:
                return sender
            sender = str(address)
            if not self.trusts(sender):
                return sender
        return sender


def _without_port(hop: str) -> str:
    """Some proxies write 10.0.0.1:1234 and [fd00::1]:1234."""
    if hop.startswith("["):
        return hop.partition("]")[0][1:]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
