"""What a whole server writes down about its models: every figure, and not a word of what was said."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from demo.tiny_model import make_tiny_llama
from tests.e2e.server import Server, running_server, wait_for
from tests.factories import make_cached_repo

pytestmark = pytest.mark.e2e

CANARY = "zyzzyva-quokka-4711"
QUESTION = [{"role": "system", "content": f"You are {CANARY}."}, {"role": "user", "content": f"Say {CANARY}."}]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    make_tiny_llama(tmp_path / "model")
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    make_cached_repo(tmp_path / "fast", "demo/tiny", files=files)
    with running_server(tmp_path, KEEP_ALIVE="-1") as running:
        wait_for(lambda: running.get("/api/models")[1])
        yield running


def stats(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/api/models/tiny/stats")[1]
    return found


def ask(client: openai.OpenAI) -> str:
    """Chats and completions, streamed and not, and what is refused. Answers what the model said."""
    chat: Any = client.chat.completions.create
    complete: Any = client.completions.create
    for chunk in chat(model="tiny", messages=QUESTION, max_tokens=40, stream=True):
        assert chunk
    answer = chat(model="tiny", messages=QUESTION, max_tokens=40, stop=[CANARY])
    for wrong in ({"temperature": CANARY}, {"messages": [{"role": CANARY, "content": "x"}]}, {"stop": [CANARY, 5]}):
        with pytest.raises(openai.BadRequestError):
            chat(**({"model": "tiny", "messages": QUESTION} | {"extra_body": wrong}))
    with pytest.raises(openai.BadRequestError):
        complete(model="tiny", prompt=f"{CANARY} " * 5000, max_tokens=10)  # longer than its context
    with pytest.raises(openai.NotFoundError):
        chat(model=CANARY, messages=QUESTION)
    return answer.choices[0].message.content or ""


def files_with(text: str, folder: Path) -> list[Path]:
    """Also as JSON or Python would write it."""
    forms = {text.encode(), json.dumps(text)[1:-1].encode(), repr(text)[1:-1].encode()}
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(form in path.read_bytes() for form in forms)]


def test_figures_are_written_down_also_at_the_end_and_nothing_that_was_said(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        said = ask(client)
        assert len(said) >= 10
        found = wait_for(lambda: stats(server) if stats(server)["last_24h"]["uses"] == 2 else None)
        model = server.get("/api/models/tiny")[1]
        client.completions.create(model="tiny", prompt=f"Once {CANARY} was", max_tokens=10)
    server.stop()  # within the second after which the last record would have been written anyway
    assert found["load_seconds"][0]["count"] == found["first_token_seconds"]["cold"]["count"] == 1
    assert found["tokens_per_second"]["median"] > 0
    assert model["use_count"] == 2 and model["completion_tokens"] == found["last_24h"]["completion_tokens"] > 0
    check_records(read_records(server.data_dir / "db.sqlite3"))
    assert files_with(CANARY, server.data_dir) == files_with(said, server.data_dir) == []


def check_records(rows: list[sqlite3.Row]) -> None:
    answered = [row for row in rows if row["kind"] == "request" and row["status"] == "ok"]
    assert [row["was_cold"] for row in answered] == [1, 0, 0]
    assert [row["is_streamed"] for row in answered] == [1, 0, 0]
    assert [row["endpoint"] for row in answered] == ["/v1/chat/completions"] * 2 + ["/v1/completions"]
    assert all(row["prompt_tokens"] > 0 and row["completion_tokens"] > 0 for row in answered)
    assert 0 < answered[0]["first_token_seconds"] <= answered[0]["duration_seconds"]
    (load,) = [row for row in rows if row["kind"] == "load"]
    assert load["load_seconds"] > 0 and load["cache_path"].endswith("/fast")


def read_records(path: Path) -> list[sqlite3.Row]:
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    rows = database.execute("SELECT * FROM inference_usagerecord ORDER BY started_at, id").fetchall()
    database.close()
    return rows
