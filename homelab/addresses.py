"""Network addresses as strangers and sockets write them. Pure."""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NETWORK_OF_ONE_HOME = 64


def parse_address(text: str) -> Address | None:
    """An IPv4 address as an IPv6 socket shows it (::ffff:10.0.0.1) is one; brackets and a zone go. None for none."""
    try:
        parsed = ipaddress.ip_address(text.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    return (parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None) or parsed


def parse_network(text: str) -> Network | None:
    """`10.0.0.0/24`, or an address as the network of it alone; None for what is neither, and for everybody (`/0`)."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return None
    return network if network.prefixlen else None


def is_loopback(text: str) -> bool:
    """127.0.0.0/8, ::1, and 127.0.0.0/8 as an IPv6 socket shows it (::ffff:127.0.0.1)."""
    parsed = parse_address(text)
    return parsed is not None and parsed.is_loopback


def sender_of(text: str) -> str:
    """By what one sender is known: an IPv4 address; of IPv6 the /64, since who has one address there has 2^64."""
    parsed = parse_address(text)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, _NETWORK_OF_ONE_HOME), strict=False).network_address)
    return str(parsed or "")
