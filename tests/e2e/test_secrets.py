"""Secrets stay where they belong: canaries are planted, every error that can be had is provoked, and all is searched."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from demo.tiny_model import make_tiny_llama
from tests.e2e.server import Server, free_port, make_environment, refusal, running_server, wait_for
from tests.factories import loadable_files, make_cached_repo, write_hub_repo
from tests.hub import FaultyHub

pytestmark = pytest.mark.e2e
TOKEN = "hf_CanaryOfTheHubsToken0123456789"
SECRET_KEY = "canary-of-the-secret-key-" + "0123456789abcdef" * 2
OTHER = "canary-of-a-key-that-lies-in-the-environment"
GUESSED = "canary-of-a-key-that-a-client-sends"
SECRETS = (TOKEN, SECRET_KEY, OTHER, GUESSED)
HELLO = [{"role": "user", "content": "Hello"}]
REPOS = ("refused", "forbidden", "gone", "limited", "broken", "echo", "garbled", "slow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[FaultyHub]:
    for name in REPOS:
        write_hub_repo(folder / "hub", f"org/{name}", files=loadable_files(weights=100_000))
    with FaultyHub(folder / "hub").serve() as running:
        yield running


@pytest.fixture(scope="module")
def server(folder: Path, hub: FaultyHub) -> Iterator[Server]:
    make_tiny_llama(folder / "tiny")
    files = {path.name: path.read_bytes() for path in (folder / "tiny").iterdir()}
    make_cached_repo(folder / "fast", "demo/tiny", files=files)
    lacking = json.dumps(json.loads(files["config.json"]) | {"num_hidden_layers": 8}).encode()
    make_cached_repo(folder / "fast", "demo/lacking", files=files | {"config.json": lacking})
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "SECRET_KEY": SECRET_KEY, "SOME_API_KEY": OTHER}
    with running_server(folder, KEEP_ALIVE="-1", ENGINE_STANDBY="on", **settings) as running:
        wait_for(lambda: len(running.get("/api/models")[1]) == 2)
        yield running


class Heard(list[str]):
    """Everything that anybody was answered."""

    def ask(self, server: Server, method: str, path: str, **options: Any) -> requests.Response:
        answer = requests.request(method, server.url + path, timeout=120, allow_redirects=False, **options)
        self.append(f"{method} {path}: {answer.status_code} {dict(answer.headers)} {answer.text}")
        return answer

    def find(self, *secrets: str) -> list[str]:
        return [said for said in self if any(secret in said for secret in secrets)]


def provoke_the_hub(server: Server, hub: FaultyHub, heard: Heard) -> None:
    """A job for each way in which a hub can fail."""
    weights = "model.safetensors"
    for name in REPOS:
        body = {"model_name": name, "hf_path": f"org/{name}", "cache_location": "primary"}
        assert heard.ask(server, "POST", "/api/models", json=body).status_code == 201
    for name, status in {"refused": 401, "forbidden": 403, "gone": 404, "limited": 429, "broken": 500}.items():
        hub.faults.refuse[weights], hub.faults.retry_after = [status] * 12, "600"
        download(server, name, heard)
    hub.faults.refuse.clear()
    hub.faults.garble.add(weights)
    download(server, "garbled", heard)
    hub.faults.garble.clear()
    for lies in ({"sha": TOKEN}, {"sha": f"Bearer {TOKEN}"}):
        hub.faults.lies = lies
        download(server, "echo", heard)
    hub.faults.lies = {}
    hub.faults.answer, hub.faults.answer_status = f"You sent {TOKEN}".encode(), 401
    download(server, "echo", heard)
    hub.faults.answer, hub.faults.answer_status = None, 200
    hub.faults.gate_repos = True
    download(server, "echo", heard)
    hub.faults.gate_repos = False
    hub.faults.detours[""] = f"http://169.254.169.254/{TOKEN}"
    download(server, "slow", heard)
    hub.faults.detours.clear()


def download(server: Server, name: str, heard: Heard) -> None:
    """Until the job has ended or waits for another attempt; it is not waited for after that."""
    job = heard.ask(server, "POST", f"/api/models/{name}/download").json()
    path = f"/api/jobs/{job['id']}"
    wait_for(lambda: (now := server.get(path)[1])["state"] == "failed" or now["error_code"] or now["error_message"])
    heard.ask(server, "GET", path)
    heard.ask(server, "POST", f"{path}/cancel")
    wait_for(lambda: server.get(path)[1]["state"] in {"failed", "cancelled"})


def provoke_the_engines(server: Server, heard: Heard) -> None:
    for name in ("tiny", "lacking", "nobody"):
        chat = {"model": name, "messages": HELLO, "max_tokens": 2}
        heard.ask(server, "POST", "/v1/chat/completions", json=chat, headers={"Authorization": f"Bearer {GUESSED}"})
    heard.ask(server, "POST", "/v1/chat/completions", json=chat | {"model": "tiny", "temperature": "hot"})
    killed = engines(server)
    assert killed
    for engine in killed:
        os.kill(engine.pid, signal.SIGKILL)
    wait_for(lambda: not [engine for engine in killed if psutil.pid_exists(engine.pid)])
    heard.ask(server, "POST", "/v1/chat/completions", json=chat | {"model": "tiny"})
    heard.ask(server, "GET", "/api/ps")


def provoke_the_doors(server: Server, heard: Heard) -> None:
    key = {"Authorization": f"Bearer {GUESSED}", "X-Forwarded-For": "10.0.0.9"}
    paths = ("/", "/api/models", "/v1/models", "/admin/", "/api/nothing", "/settings", f"/api/models/x?key={GUESSED}")
    for path in paths:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
            heard.ask(server, method, path)
            heard.ask(server, method, path, headers=key)
        heard.ask(server, "POST", path, data=b"{" + GUESSED.encode(), headers={"Content-Type": "application/json"})
        heard.ask(server, "POST", path, data={"key": GUESSED})
    heard.ask(server, "GET", "/api/models", headers={"Host": "evil.example"})


def engines(server: Server) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.Error):
            found += [process] if "inference.engine" in process.cmdline() else []
    return found


def read_processes(server: Server) -> tuple[str, str]:
    """The words of all processes of the server, and what engines have in their environments."""
    words, environments = "", ""
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.Error):
            line = process.cmdline()
            words += f"{line}\n"
            environments += f"{process.environ()}\n" if "inference.engine" in line else ""
    return words, environments


def find_files(folder: Path, *secrets: str) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [f"{path}: {secret[:12]}" for path in files for secret in secrets if secret.encode() in path.read_bytes()]


def test_no_secret_is_told_written_or_handed_on(server: Server, hub: FaultyHub, folder: Path) -> None:
    heard = Heard()
    provoke_the_hub(server, hub, heard)
    provoke_the_engines(server, heard)
    provoke_the_doors(server, heard)
    for path in ("/api/models", "/api/jobs", "/api/cache/stats", "/openapi.json", "/health", "/settings/diagnostics"):
        heard.ask(server, "GET", path)
    for path in ("/", "/home/live", "/settings", "/settings/live"):
        assert heard.ask(server, "GET", path).status_code == 200
    wait_for(lambda: len(engines(server)) == 2, seconds=60)  # a loaded one, and one on standby
    words, environments = read_processes(server)
    time.sleep(2)  # what is logged late
    assert hub.authorizations == {f"Bearer {TOKEN}"}  # it was used
    assert "inference.engine" in words and "HF_HUB_OFFLINE" in environments
    assert [secret for secret in SECRETS if secret in words or secret in environments] == []
    assert heard.find(TOKEN, SECRET_KEY, OTHER) == []
    assert [find_files(folder / name, *SECRETS) for name in ("data", "fast", "slow")] == [[], [], []]
    assert [secret for secret in SECRETS if secret in server.output()] == []


def test_a_settings_error_does_not_tell_the_value_of_a_secret(folder: Path) -> None:
    environment = make_environment(
        folder / "refused", port=free_port(), HF_TOKEN=TOKEN, SECRET_KEY=SECRET_KEY, HOST="nowhere.invalid"
    )
    code, errors = refusal(environment)
    assert code != 0 and TOKEN not in errors and SECRET_KEY not in errors
