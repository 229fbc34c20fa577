"""Every request, snippet and SQL line of the user's own guide (users_guide.md, word for word), against a real server
with no set-up. Only the port is another one, so that the test can run beside a server."""

import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.server import Server, running_server

pytestmark = pytest.mark.e2e
GUIDE = (Path(__file__).parent / "users_guide.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", GUIDE, flags=re.S)
CURLS = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line.startswith("curl")]
SNIPPETS = [text for kind, text in BLOCKS if kind == "python"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("guide"), CACHE_ALLOWED_ROOTS="/mnt") as running:
        yield running


def here(text: str, server: Server) -> str:
    return text.replace("localhost:8000", f"localhost:{server.port}")


def test_the_guide_has_the_requests_that_are_meant() -> None:
    assert len(CURLS) == 3 and len(SNIPPETS) == 4


@pytest.mark.parametrize("line", CURLS)
def test_each_curl_line_answers_json_with_no_set_up(server, line) -> None:
    done = subprocess.run(["sh", "-c", here(f"{line} --silent --fail", server)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("{")


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("line", CURLS)
def test_each_curl_line_works_on_both_loopback_addresses_and_with_an_empty_body(server, line, address) -> None:
    there = here(line, server).replace("localhost", address)
    empty = " -d ''" if "POST" in line else ""
    done = subprocess.run(["sh", "-c", f"{there}{empty} --silent --fail --globoff"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_python_snippets_run_one_after_the_other(server, capsys) -> None:
    """As a reader would type them into one session."""
    session: dict[str, object] = {}
    for snippet in SNIPPETS:
        exec(
            here(snippet, server) if "import requests" in snippet else here("import requests\n" + snippet, server),
            session,
        )
        answer = session.get("response")
        assert answer is None or answer.ok, answer.text
    assert "llama-3-8b: secondary (14000MB)" in capsys.readouterr().out
    names = {model["model_name"] for model in requests.get(f"{server.url}/api/models", timeout=10).json()}
    assert names >= {"llama-3-8b", "test-model", "auto-cached-model"}


def test_the_answers_have_the_fields_that_the_guide_shows(server) -> None:
    stats = requests.get(f"{server.url}/api/cache/stats", timeout=10).json()
    assert {"used_gb", "limit_gb", "usage_percent", "disk_free_gb", "level", "age_seconds"} <= stats["primary"].keys()
    question = {"cache_location": "primary", "required_space_mb": 5000}
    check = requests.post(f"{server.url}/api/cache/check", json=question, timeout=10).json()
    assert {"sufficient", "warning", "available_mb", "limiting_factor", "message"} <= check.keys()
    by_query = requests.post(f"{server.url}/api/cache/check", params=question, timeout=10).json()
    assert by_query["required_space_mb"] == check["required_space_mb"] == 5000


def test_the_update_of_the_guide_is_sql_that_the_database_takes(server) -> None:
    body = {"model_name": "your-model-name", "hf_path": "org/name", "estimated_size_mb": 10}
    requests.post(f"{server.url}/api/models", json=body, timeout=10)
    (statement,) = [text for kind, text in BLOCKS if kind == "sql"]
    with sqlite3.connect(server.data_dir / "db.sqlite3", timeout=10) as database:
        assert database.execute(statement).rowcount == 1
    model = requests.get(f"{server.url}/api/models/your-model-name", timeout=10).json()
    assert model["cache_location"] == "secondary" and model["cache_path"].endswith("/slow")


def test_the_estimate_of_the_guides_table_is_what_we_guess(server) -> None:
    body = {"model_name": "guess", "hf_path": "org/some-7B", "cache_location": "secondary"}
    answer = requests.post(f"{server.url}/api/models", json=body, timeout=15)
    assert answer.status_code == 201 and answer.json()["model_size_mb"] == 14000
