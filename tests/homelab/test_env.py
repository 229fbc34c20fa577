"""Readers of settings: what is not right is a sentence."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from homelab.env import Reader


@pytest.mark.parametrize(
    "address", ["", "http://localhost:8123/hook", "https://example.org/a?token=b", "http://[::1]:80/x"]
)
def test_a_web_address_is_taken_as_it_is(address: str) -> None:
    assert Reader({"HOOK": f" {address} "}).web_address("HOOK") == address


@pytest.mark.parametrize(
    "address",
    [
        "example.org/hook",
        "ftp://example.org",
        "file:///etc/passwd",
        "https://",
        "http:///hook",
        "http://a b",
        "http://host:port/",
        "http://host:99999/",
        "http://[::1",
        "javascript:alert(1)",
        "on",
        "http://exämple.org",
    ],
)
def test_what_is_no_web_address_stops_the_start(address: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"HOOK is .* but an address such as https://"):
        Reader({"HOOK": address}).web_address("HOOK")
