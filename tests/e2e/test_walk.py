"""The main job, end to end: from an empty folder to a chat, by REST, in the shell, and by the `openai` client."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest
import requests

from demo.tiny_model import make_tiny_llama
from tests.e2e.server import Server, run_command, running_server, wait_for
from tests.factories import loadable_files, make_cached_repo, write_hub_repo
from tests.hub import FaultyHub

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("walk")


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[FaultyHub]:
    make_tiny_llama(folder / "hub" / "demo" / "tiny-llama")
    write_hub_repo(folder / "hub", "demo/unheard-of", files=loadable_files(weights=20_000_000))
    with FaultyHub(folder / "hub").serve() as running:
        yield running


@pytest.fixture(scope="module")
def server(folder: Path, hub: FaultyHub) -> Iterator[Server]:
    """A server whose secondary cache holds a model already, with a monitor that measures every second."""
    files = {path.name: path.read_bytes() for path in (folder / "hub" / "demo" / "tiny-llama").iterdir()}
    make_cached_repo(folder / "slow", "old/lies-there", files=files)
    settings = {"HF_ENDPOINT": hub.endpoint, "CACHE_MONITOR_INTERVAL_SECONDS": "1", "KEEP_ALIVE": "-1"}
    with running_server(folder, **settings) as running:
        yield running


@pytest.fixture
def api(server: Server):
    def call(method: str, path: str, **options):
        answer = requests.request(method, server.url + path, timeout=60, **options)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    return call


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def ready(api) -> str:
    """A downloaded model, whichever test comes first."""
    if "walk" not in {model["model_name"] for model in api("GET", "/api/models")}:
        body = {"model_name": "walk", "hf_path": "demo/tiny-llama", "cache_location": "primary", "download": True}
        job = api("POST", "/api/models", json=body)["job"]
        finished(api, job["id"])
    return "walk"


def finished(api, pk: int) -> dict:
    job = wait_for(lambda: (found := api("GET", f"/api/jobs/{pk}"))["state"] not in {"queued", "running"} and found)
    assert job["state"] == "done", job
    return job


def shell(server: Server, folder: Path, *arguments: str, code: int = 0) -> str:
    done = run_command(*arguments, folder=folder, port=server.port)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_download_shows_real_progress_and_ends_ready_in_its_own_cache(api, hub, folder) -> None:
    hub.faults.rate_bytes_per_second = 8_000_000
    body = {"model_name": "slowly", "hf_path": "demo/unheard-of", "cache_location": "secondary"}
    assert api("POST", "/api/models", json=body)["status"] == "registered"
    job = api("POST", "/api/models/slowly/download")
    seen = set()
    while (now := api("GET", f"/api/jobs/{job['id']}"))["state"] in {"queued", "running"}:
        seen.add((now["stage"], now["bytes_done"], now["rate_bytes_per_second"] > 0))
        time.sleep(0.1)
    hub.faults.rate_bytes_per_second = None
    assert now["state"] == "done", now
    amounts = {amount for stage, amount, _ in seen if stage == "downloading"}
    assert len(amounts) >= 3 and any(is_moving for *_, is_moving in seen)
    model = api("GET", "/api/models/slowly")
    assert model["status"] == "ready" and model["size_bytes"] == now["bytes_total"]
    assert (
        folder / "slow" / "models--demo--unheard-of" / "snapshots" / model["revision"] / "model.safetensors"
    ).is_file()


def test_a_chat_loads_the_model_and_streams_to_the_letter(client, ready, api) -> None:
    api("POST", f"/api/models/{ready}/unload")
    stream = client.chat.completions.create(
        model=ready,
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason in {"stop", "length"}
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens <= 8
    assert {chunk.model for chunk in chunks} == {ready}


def test_a_chat_without_stream_is_the_same_text(client, ready) -> None:
    asked = {"model": ready, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    pieces = client.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in pieces) == whole.choices[0].message.content
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


async def test_the_asynchronous_client_and_completions_work_too(server, ready) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        answer = await client.completions.create(model=ready, prompt="Once upon a time", max_tokens=4)
        assert answer.object == "text_completion" and answer.usage.completion_tokens <= 4
        listed = [model.id async for model in client.models.list()]
    assert ready in listed


def test_models_are_listed_with_their_state_and_context_length(client, ready, api) -> None:
    api("POST", f"/api/models/{ready}/load")
    model = client.models.retrieve(ready)
    assert model.status == {"value": "loaded"} and model.context_length == 512
    (loaded,) = [each for each in api("GET", "/api/ps") if each["model"] == ready]
    assert loaded["device"] == "cpu" and loaded["requests"] == 0 and "/fast/" in loaded["cache_path"]
    assert api("POST", f"/api/models/{ready}/unload")["was_loaded"] is True
    assert client.models.retrieve(ready).status == {"value": "unloaded"}


def test_a_hub_repo_is_an_alias_while_it_is_unique(client, ready) -> None:
    answer = client.chat.completions.create(
        model="lies-there", messages=[{"role": "user", "content": "x"}], max_tokens=1
    )
    assert answer.model == "lies-there"
    assert client.models.retrieve("old/lies-there").id == "lies-there"


@pytest.mark.parametrize(
    ("body", "error", "code"),
    [
        ({"model": "nobody", "messages": [{"role": "user", "content": "x"}]}, openai.NotFoundError, "model_not_found"),
        ({"model": "walk", "messages": [], "stream": True}, openai.BadRequestError, "invalid_value"),
        (
            {"model": "walk", "messages": [{"role": "user", "content": "x"}], "temperature": 9},
            openai.BadRequestError,
            "invalid_value",
        ),
        (
            {"model": "walk", "messages": [{"role": "user", "content": "word " * 3000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
    ],
)
def test_errors_reach_the_client_with_their_code_and_are_not_tried_again(client, ready, body, error, code) -> None:
    with pytest.raises(error) as refused:
        client.chat.completions.create(**body)
    assert refused.value.code == code and refused.value.response.headers.get("x-should-retry") in {"false", None}


def test_a_model_that_is_not_downloaded_says_what_to_do(client, api) -> None:
    api("POST", "/api/models", json={"model_name": "later", "hf_path": "demo/none", "estimated_size_mb": 1})
    with pytest.raises(openai.NotFoundError, match="POST /api/models/later/download"):
        client.chat.completions.create(model="later", messages=[{"role": "user", "content": "x"}], stream=True)


def test_a_cold_stream_answers_with_its_headers_at_once(server, ready, api) -> None:
    api("POST", f"/api/models/{ready}/unload")
    body = {"model": ready, "stream": True, "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]}
    started = time.monotonic()
    with requests.post(f"{server.url}/v1/chat/completions", json=body, stream=True, timeout=60) as answer:
        assert time.monotonic() - started < 1.5
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = [line.decode() for line in answer.iter_lines() if line]
    assert lines[0].startswith(": loading ") and lines[-1] == "data: [DONE]"


def test_a_client_that_leaves_frees_the_model(server, ready, api) -> None:
    body = json.dumps(
        {"model": ready, "stream": True, "max_tokens": 400, "messages": [{"role": "user", "content": "x"}]}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall((head + body).encode())
        connection.recv(4096)
    wait_for(lambda: all(each["requests"] == 0 for each in api("GET", "/api/ps")), seconds=5)


def test_models_that_lay_in_a_cache_are_found_at_the_first_start_and_load_with_nothing_moved(api, folder) -> None:
    model = wait_for(lambda: next((m for m in api("GET", "/api/models") if m["model_name"] == "lies-there"), None))
    assert model["status"] == "ready" and model["cache_location"] == "secondary"
    loaded = api("POST", "/api/models/lies-there/load")
    assert loaded["cache_path"].startswith(str(folder / "slow" / "models--old--lies-there"))
    api("POST", "/api/models/lies-there/unload")


def test_beat_measures_again_and_again_and_the_figures_follow_the_disk(api, folder) -> None:
    first = wait_for(lambda: api("GET", "/api/cache/stats")["secondary"]["updated_at"])
    (folder / "slow" / "stranger.bin").write_bytes(b"x" * 5_000_000)
    used = api("GET", "/api/cache/stats")["secondary"]["used_bytes"]
    later = wait_for(
        lambda: (now := api("GET", "/api/cache/stats")["secondary"])["used_bytes"] >= used + 5_000_000 and now
    )
    assert later["updated_at"] > first and later["age_seconds"] <= 10
    (folder / "slow" / "stranger.bin").unlink()
    wait_for(lambda: len(api("GET", "/api/cache/history?cache=secondary")) >= 2)  # one a slot, however often measured


def test_the_shell_walks_the_same_way(server, folder, hub, api) -> None:
    assert "fit" in shell(server, folder, "cache_check", "primary", "100")
    assert "do not fit" in shell(server, folder, "cache_check", "primary", "900000", code=1)
    assert "primary" in shell(server, folder, "cache_stats", "--refresh")
    assert "old/lies-there" in shell(server, folder, "cache_scan")
    out = shell(
        server,
        folder,
        "register",
        "shelly",
        "demo/tiny-llama",
        "--cache-location",
        "primary",
        "--estimated-size-mb",
        "30",
    )
    assert "Registered shelly" in out
    assert "shelly" in shell(server, folder, "models")
    assert "downloaded and verified" in shell(server, folder, "download", "shelly")
    assert "is loaded on cpu" in shell(server, folder, "load", "shelly")
    messages = json.loads(shell(server, folder, "chat", "shelly", "Hello", "--max-tokens", "4", "--json"))
    assert messages[1]["role"] == "assistant"
    assert "unloaded" in shell(server, folder, "unload", "shelly")
    assert {"shelly"} <= {model["model_name"] for model in json.loads(shell(server, folder, "models", "--json"))}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("register", "x", "../etc"), "is no repo on the Hub"),
        (("register", "x", "a/b", "--estimated-size-mb", "nan"), "not a number of megabytes"),
        (
            ("register", "x", "a/b", "--cache-location", "custom", "--cache-path", "/etc"),
            "lies below no allowed folder",
        ),
        (("download", "nobody"), "There is no model named"),
        (("chat", "nobody", "hi"), "There is no model named"),
        (("cache_check", "attic", "5"), "cache_location"),
    ],
)
def test_a_wrong_word_in_the_shell_ends_in_a_sentence(server, folder, arguments, sentence) -> None:
    output = shell(server, folder, *arguments, code=1)
    assert sentence in output and "Traceback" not in output


def test_the_web_process_never_imports_torch_and_stays_small(server, ready, api) -> None:
    api("POST", f"/api/models/{ready}/unload")
    web = server.program("web")
    maps = Path(f"/proc/{web.pid}/maps").read_text()
    assert "libtorch" not in maps
    assert web.memory_full_info().pss < 150 * 10**6


def test_no_engine_outlives_a_killed_web_process(server, ready, api) -> None:
    api("POST", f"/api/models/{ready}/load")
    web = server.program("web")
    engines = [child for child in web.children() if "inference.engine" in " ".join(child.cmdline())]
    assert engines
    web.kill()
    psutil.wait_procs(engines, timeout=5)
    assert not any(engine.is_running() and engine.status() != psutil.STATUS_ZOMBIE for engine in engines)
    server.wait_for_program("web", other_than=web.pid)
    wait_for(server.is_up)


def test_engines_get_no_secrets(server, ready, api) -> None:
    api("POST", f"/api/models/{ready}/load")
    engines = [child for child in server.program("web").children() if "inference.engine" in child.cmdline()]
    engine = next(each for each in engines if ready in each.cmdline())
    names = engine.environ().keys()
    assert (
        not {"HF_TOKEN", "SECRET_KEY", "DATABASE_URL", "DATA_DIR"} & names and engine.environ()["HF_HUB_OFFLINE"] == "1"
    )
    assert os.getpgid(engine.pid) == engine.pid
    api("POST", f"/api/models/{ready}/unload")


def test_a_model_is_forgotten_and_found_again(api, folder) -> None:
    repo = folder / "fast" / "models--demo--copy"
    shutil.copytree(folder / "slow" / "models--old--lies-there", repo, symlinks=True)
    api("POST", "/api/cache/refresh")
    assert "copy" in {model["model_name"] for model in api("GET", "/api/models")}
    api("DELETE", "/api/models/copy?files=keep")
    assert repo.is_dir()
