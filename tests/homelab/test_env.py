"""Readers of settings: what is not right is a sentence, and what was read says where it came from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from homelab.env import Reader, Reading


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


# What was read, and from where

SOURCES = """
import json
from homelab import settings
print(json.dumps({each.name: [each.shown, each.source] for each in settings.CONFIGURATION}))
"""


def read_sources(folder: Path, text: str, *, above: str = "", **environment: str) -> dict[str, list[str]]:
    """As a new process reads them from a file with this text; `above` is a command that starts it, and read them, too."""
    (folder / ".env").write_text(text)
    kept = {"PATH": os.environ["PATH"], "HOMELAB_ENV_FILE": str(folder / ".env"), "DATA_DIR": str(folder / "data")}
    command = [sys.executable, "-c", *([above] if above else []), SOURCES]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_each_setting_says_whether_the_file_the_environment_or_nobody_set_it(tmp_path: Path) -> None:
    text = "PORT=8123\nHF_TOKEN=hf_of_the_file\nPRIMARY_CACHE_LIMIT_GB=80  # of 100\nTRASH_DAYS=\n"
    found = read_sources(tmp_path, text, PORT="8200", PRIMARY_CACHE_PATH="~/x/../models")
    assert found["PORT"] == ["8200", "environment"]
    assert found["HF_TOKEN"] == ["set", "file"]
    assert found["PRIMARY_CACHE_LIMIT_GB"] == ["80", "file"]
    assert found["PRIMARY_CACHE_PATH"] == [str(Path.home() / "models"), "environment"]
    assert found["TRASH_DAYS"] == ["7", "default"]
    assert found["SECRET_KEY"] == ["not set", "default"]
    assert found["HOST"] == ["127.0.0.1", "default"]


def test_a_process_that_was_started_by_one_that_read_the_file_still_names_the_file(tmp_path: Path) -> None:
    above = (
        "import subprocess, sys; from homelab import settings;"
        "sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode)"
    )
    found = read_sources(tmp_path, "PORT=8123\n", above=above, HOST="localhost")
    assert (found["PORT"], found["HOST"]) == (["8123", "file"], ["localhost", "environment"])


@pytest.mark.parametrize(
    ("read", "text", "shown", "secrets"),
    [
        ("text", "postgres://ada:pass%2Fword@db/x", "postgres://***@db/x", {"pass%2Fword", "pass/word"}),
        ("text", "redis://:pa/ss@host:6379/0", "redis://***@host:6379/0", {"pa/ss"}),
        ("text", "https://token@mirror.example", "https://***@mirror.example", {"token"}),
        ("text", "https://huggingface.co", "https://huggingface.co", set()),
        ("secret", "hf_abc", "set", {"hf_abc"}),
        ("web_address", "https://hooks.example/T0/secret?x=y", "https://hooks.example/***", None),
        ("web_address", "https://hooks.example", "https://hooks.example", None),
    ],
)
def test_what_is_shown_has_no_secret_in_it(read: str, text: str, shown: str, secrets: set[str] | None) -> None:
    reader = Reader({"NAME": text}, from_file={"NAME"})
    assert getattr(reader, read)("NAME") == text
    assert reader.readings["NAME"] == Reading("NAME", shown, source="file")
    assert reader.secrets == ({text} if secrets is None else secrets)


def test_a_wrong_url_is_told_without_its_password(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": "postgres://ada:canary@db:port/x",
    }
    command = [sys.executable, "-c", "import homelab.settings"]
    started = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert started.returncode != 0 and "DATABASE_URL is" in started.stderr
    assert "canary" not in started.stderr.splitlines()[-1]
