"""Nothing of the server's environment, words and open files is an engine's, but what it needs."""

import asyncio
import os
from pathlib import Path

import pytest

from inference.process import EnginePlan, EngineProcess, end_process, spawn

PROJECT = Path(__file__).resolve().parents[2]
CANARY = "canary-of-a-secret"
NAMES = (
    "HF_TOKEN",
    "SECRET_KEY",
    "HUGGING_FACE_HUB_TOKEN",
    "OPENAI_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "DATABASE_URL",
    "REDIS_URL",
    "HTTPS_PROXY",
    "SSH_AUTH_SOCK",
    "LD_PRELOAD_KEY",
    "PYTHONSTARTUP",
)
ALLOWED = {
    "PATH",
    "LANG",
    "LC_CTYPE",  # Python's own
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "OMP_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "HF_HUB_OFFLINE",
    "TOKENIZERS_PARALLELISM",
    "HOME",
}


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret_key"
    path.write_text(CANARY)
    return path


async def read_process(pid: int) -> tuple[dict[str, str], str, set[str]]:
    """Its environment, its words, and what it has open, once it is Python."""
    folder = Path(f"/proc/{pid}")
    async with asyncio.timeout(30):
        while b"inference.engine" not in (folder / "cmdline").read_bytes():
            await asyncio.sleep(0.01)
    pairs = (folder / "environ").read_text().strip("\0").split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs)
    return environment, (folder / "cmdline").read_text(), {str(path.readlink()) for path in (folder / "fd").iterdir()}


@pytest.mark.parametrize("kind", ["ordered", "standby"])
async def test_an_engine_has_no_secret_in_environment_words_or_open_files(
    kind, tmp_path, secret_file, monkeypatch
) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, CANARY)
    with secret_file.open() as secret, (tmp_path / "log").open("wb") as log:
        os.set_inheritable(secret.fileno(), True)
        if kind == "standby":
            process = await spawn(["--standby"], project_path=PROJECT, output=log.fileno())
        else:
            plan = EnginePlan("tiny", tmp_path, tmp_path / "s", tmp_path / "log", PROJECT)
            process = (await EngineProcess.start(plan)).process
        environment, words, files = await read_process(process.pid)
        await end_process(process)
    assert set(environment) <= ALLOWED and CANARY not in str(environment)
    assert CANARY not in words
    assert not [name for name in files if name.endswith("secret_key")]
