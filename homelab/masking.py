"""Secrets in words that people see or send on: those that are known, and what looks like one. Pure."""

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
_LEAST_LENGTH = 4  # what is shorter stands in every second word

_USERINFO = re.compile(r"(?<=://)[^\s/?#@'\"]*@")
_GREEDY_USERINFO = re.compile(r"(?<=://)\S*@")
_IN_QUERY = re.compile(r"(?i)([\w-]*(?:token|key|secret|passw|signature|auth)[\w-]*)=[^&\s'\"]+")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+\S+")
_LOOKS_LIKE_ONE = re.compile(
    r"(?<![0-9A-Za-z])(?:(?:hf|api_org)_\w{8,}|[0-9A-Za-z]{8}\.[0-9A-Za-z]{32}(?![0-9A-Za-z]))"
)


def mask(text: str, *, secrets: Iterable[str] = ()) -> str:
    """The text without these secrets, without what looks like a token or a key of ours, and without names and passwords
    in URLs."""
    for secret in sorted(secrets, key=len, reverse=True):  # a secret may be a part of another one
        if len(secret) >= _LEAST_LENGTH:
            text = text.replace(secret, HIDDEN)
    text = _USERINFO.sub(f"{HIDDEN}@", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _LOOKS_LIKE_ONE.sub(HIDDEN, _IN_QUERY.sub(rf"\1={HIDDEN}", text))


def mask_address(address: str) -> str:
    """A URL that is a secret as a whole, as those of webhooks are: its host remains."""
    parts = urlsplit(address)
    host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return f"{host}/{HIDDEN}" if parts.path.strip("/") or parts.query else host


def mask_userinfo(address: str) -> str:
    """Also where somebody forgot to write the / of a password as %2F."""
    return _IN_QUERY.sub(rf"\1={HIDDEN}", _GREEDY_USERINFO.sub(f"{HIDDEN}@", address))


def secrets_in(address: str) -> set[str]:
    """The password of a URL, as it is written and as it is meant; where there is none, the name. Empty for what is no
    URL."""
    found = _GREEDY_USERINFO.search(address)
    if found is None:
        return set()
    name, separator, password = found[0].removesuffix("@").partition(":")
    secret = password if separator else name
    return {secret, unquote(secret)} - {""}
