"""What is open to whom, in words, for a server that listens beyond this machine. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from homelab.addresses import Network, is_loopback
from homelab.web import LOOPBACK_NAMES


@dataclass(frozen=True, slots=True)
class Openness:
    """The settings that decide."""

    host: str
    port: int
    trusts_local: bool
    wants_https: bool
    own_names: Sequence[str] = ()
    proxies: Sequence[Network] = ()

    @property
    def is_beyond(self) -> bool:
        return not (self.host.lower() in LOOPBACK_NAMES or is_loopback(self.host))


def describe_openness(openness: Openness) -> list[str]:
    """Lines for a person at a terminal; none where only this machine can come."""
    if not (openness.is_beyond or openness.proxies):
        return []
    return [line for line in (_elsewhere(openness), _here(openness), _proxies(openness), _encryption(openness)) if line]


def _elsewhere(openness: Openness) -> str:
    if not openness.is_beyond:
        return ""
    names = f" Names: {', '.join(openness.own_names)}." if openness.own_names else ""
    where = f"Who reaches {openness.host}, port {openness.port}, from elsewhere"
    return f"{where} gets /health and /login; all else wants an API key or a sign-in.{names}"


def _here(openness: Openness) -> str:
    if openness.trusts_local:
        return "This machine itself needs neither: each of its users is the owner (LOCAL_TRUST=off ends that)."
    return "This machine itself needs a key or a sign-in, too (LOCAL_TRUST=off)."


def _proxies(openness: Openness) -> str:
    names = ", ".join(map(str, openness.proxies))
    return f"What {names} pass on is believed to come from whom they name, and never from here." if names else ""


def _encryption(openness: Openness) -> str:
    if openness.wants_https:
        return "Keys and passwords are taken over https:// only; a proxy in TRUSTED_PROXIES has to bring it."
    return "HTTPS is off: whoever can listen on that network reads keys, passwords and chats."
