"""The demo: a throw-away library with two small drives, and a hub on this machine that offers two tiny models."""

import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from homelab.launch.prepare import CannotStart

# What the processes need of the user's environment; no setting of theirs may lead the demo to their own library.
KEPT_NAMES = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TZ", "TMPDIR", "HOST", "PORT"})
KEPT_PREFIXES = ("LC_", "LD_", "PYTHON", "VIRTUAL_ENV", "CUDA_", "NVIDIA_", "OMP_", "COV")
MODELS = {"demo/tiny-llama": "tiny", "demo/small-llama": "small"}
HUB_MB_PER_SECOND = 8
PROJECT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Demo:
    folder: Path
    hub_port: int

    @property
    def hub_folder(self) -> Path:
        return self.folder / "hub"


def make_demo() -> Demo:
    folder = Path(tempfile.mkdtemp(prefix="homelab-demo-")).resolve()
    for name in ("data", "fast-drive", "big-drive", "hub"):
        (folder / name).mkdir(mode=0o700)
    return Demo(folder=folder, hub_port=find_free_port())


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def enter(demo: Demo) -> None:
    """Changes this process's environment, and so that of all its children, to the demo's."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT_NAMES or name.startswith(KEPT_PREFIXES)}
    os.environ.clear()
    os.environ.update(kept | settings_of(demo))


def settings_of(demo: Demo) -> dict[str, str]:
    return {
        "HOMELAB_ENV_FILE": os.devnull,
        "DATA_DIR": str(demo.folder / "data"),
        "PRIMARY_CACHE_PATH": str(demo.folder / "fast-drive"),
        "PRIMARY_CACHE_LIMIT_GB": "0.1",
        "SECONDARY_CACHE_PATH": str(demo.folder / "big-drive"),
        "SECONDARY_CACHE_LIMIT_GB": "1",
        "CACHE_ALLOWED_ROOTS": str(demo.folder),
        "DISK_RESERVE_GB": "0.1",
        "HF_ENDPOINT": f"http://127.0.0.1:{demo.hub_port}",
    }


def make_models(demo: Demo) -> None:
    """Both at the same time, each in a process of its own: torch stays out of the supervisor."""
    makers = {
        name: subprocess.Popen(
            [sys.executable, "-m", "demo.tiny_model", str(demo.hub_folder / name), "--size", size],
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
        )
        for name, size in MODELS.items()
    }
    failed = [name for name, maker in makers.items() if maker.wait() != 0]
    if failed:
        raise CannotStart(f"The demo's models {', '.join(failed)} could not be made; the lines above say why.")


def hub_command(demo: Demo) -> tuple[str, ...]:
    options = ("--port", str(demo.hub_port), "--rate-mb-per-second", str(HUB_MB_PER_SECOND))
    return (sys.executable, "-m", "demo.hub", "--repos", str(demo.hub_folder), *options)


def next_steps(address: str) -> str:
    body = '{"model_name": "tiny", "hf_path": "demo/tiny-llama", "cache_location": "primary"}'
    chat = '{"model": "tiny", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
    post = "curl -H 'Content-Type: application/json'"
    return f"""

What to try (the demo's models are tiny and talk nonsense; a second one is demo/small-llama):
  1. Look around     {address}/
  2. Register        {post} {address}/api/models -d '{body}'
  3. Download        curl -X POST {address}/api/models/tiny/download
  4. Chat            {post} {address}/v1/chat/completions -d '{chat}'
  5. Drives          curl {address}/api/cache/stats
"""
