"""Readers of settings: what is not right is a sentence."""

import os
import subprocess
import sys
from pathlib import Path

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


def test_a_number_that_may_be_left_out_is_none_then() -> None:
    assert Reader({}).optional_number("RATE", minimum=1) is None
    assert Reader({"RATE": " "}).optional_number("RATE", minimum=1) is None
    assert Reader({"RATE": "2.5"}).optional_number("RATE", minimum=1) == 2.5
    with pytest.raises(ImproperlyConfigured, match="RATE is '0', but a number from 1 is wanted"):
        Reader({"RATE": "0"}).optional_number("RATE", minimum=1)


def test_a_choice_is_one_of_its_words_in_any_case_or_stops_the_start() -> None:
    assert Reader({}).choice("PRIORITY", "idle", among=["idle", "normal"]) == "idle"
    assert Reader({"PRIORITY": "Normal"}).choice("PRIORITY", "idle", among=["idle", "normal"]) == "normal"
    with pytest.raises(ImproperlyConfigured, match="PRIORITY is 'high', but idle or normal is wanted"):
        Reader({"PRIORITY": "high"}).choice("PRIORITY", "idle", among=["idle", "normal"])


def test_a_rate_at_which_no_job_gets_on_stops_the_start(tmp_path: Path) -> None:
    """Below it, a piece of a file takes longer than a minute, and work that is only slow looks like one that hangs."""
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "TRANSFER_RATE_LIMIT_MB": "0.05"}
    command = [sys.executable, "-c", "import homelab.settings"]
    started = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert started.returncode != 0 and "TRANSFER_RATE_LIMIT_MB is '0.05'" in started.stderr


def test_networks_are_addresses_or_networks() -> None:
    read = Reader({"PROXIES": "127.0.0.2, 10.0.0.0/24,fd00::/64"}).networks("PROXIES")
    assert [str(network) for network in read] == ["127.0.0.2/32", "10.0.0.0/24", "fd00::/64"]
    assert Reader({}).networks("PROXIES") == ()


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "10.0.0.1/24", "proxy.lan", "*", "10.0.0.0/33", "127.0.0.2:80"])
def test_what_is_no_network_or_is_everybody_stops_the_start(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"PROXIES is .* but an address or a network such as"):
        Reader({"PROXIES": text}).networks("PROXIES")


def test_host_names_are_read_as_a_host_header_has_them() -> None:
    read = Reader({"NAMES": "Box.lan, gpu_box,10.0.0.1,FD00::1,[fe80::1]"}).host_names("NAMES")
    assert read == ["box.lan", "gpu_box", "10.0.0.1", "[fd00::1]", "[fe80::1]"]


@pytest.mark.parametrize("text", ["*", "http://box.lan", "box.lan:8000", ".lan", "box..lan", "a b", "bóx.lan", "@"])
def test_what_is_no_host_name_stops_the_start(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"NAMES is .* but a name such as box\.lan"):
        Reader({"NAMES": text}).host_names("NAMES")
