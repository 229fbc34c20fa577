"""The README's walk, as a stranger types it: every command of "Five minutes" in order, against the demo."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.server import PROJECT, Server, free_port, running_server, wait_for

pytestmark = pytest.mark.e2e
WALK = (PROJECT / "README.md").read_text().partition("## Five minutes")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", WALK, flags=re.S)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    with running_server(tmp_path_factory.mktemp("demo"), "--demo", "--port", str(port), port=port) as running:
        yield running


def run(kind: str, text: str) -> str:
    command = ["bash", "-euo", "pipefail", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


def commands() -> list[tuple[str, str]]:
    """One bash command a time, with its continuation lines; a Python block as a whole."""
    single: list[tuple[str, str]] = []
    for kind, text in BLOCKS:
        lines = text.replace("\\\n", " ").splitlines() if kind == "bash" else [text]
        single += [(kind, line) for line in lines if line.strip() and not line.startswith("#")]
    return single


def test_the_walk_has_commands_for_the_shell_and_for_python() -> None:
    assert {kind for kind, _ in BLOCKS} == {"bash", "python"} and len(commands()) >= 8


def test_every_command_of_the_walk_works_as_it_is_printed(demo) -> None:
    for kind, text in commands():
        if "script/server" in text or "manage.py" in text:
            continue  # the demo runs already, on a data folder of its own
        output = run(kind, text.replace("localhost:8000", f"localhost:{demo.port}"))
        for line in output.splitlines():
            assert '"error":' not in line or json.loads(line).get("error") == "", f"{text}\n{line}"
        if text.rstrip('"').endswith("/download"):
            wait_for(lambda: demo.get("/api/jobs")[1][0]["state"] == "done")
