"""How fast a download is, against bare `snapshot_download` from the same hub on loopback, side by side in one run.

    .venv/bin/python -m bench.transfers_download [--files 4 --megabytes 256 --rounds 5 --folder /tmp]
    .venv/bin/python -m bench.transfers_download --rate-mb-per-second 110    # as fast as a line of 1 Gbit/s

Ours does more: each byte is on the drive, was read back from there and hashed before it counts. "checked by hand" is
the library's download followed by `sync` and `sha256sum`, which gives half of that. The rounds are interleaved, each
in another order, and start with nothing left to write; the medians are compared. Each is a process of its own.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cachemgr.errands import Errand, run_errand
from registry.hub import read_hub
from tests.factories import loadable_files, write_hub_repo

REPO = "bench/model"
BARE, BY_HAND, OURS = "snapshot_download", "snapshot_download, checked by hand", "ours, verified and durable"
LIBRARY = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], cache_dir=sys.argv[2])
"""
CHECK = 'sync -f "$0" && find "$0" -name "*.safetensors" -exec sha256sum {} + > /dev/null'
QUIET = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

Work = Callable[[Path], object]


@dataclass(frozen=True)
class Bench:
    """`endpoint` is the hub's; `folder` is where the caches are made."""

    endpoint: str
    folder: Path
    size_bytes: int

    @property
    def works(self) -> dict[str, Work]:
        return {BARE: self.fetch_bare, BY_HAND: self.fetch_by_hand, OURS: self.fetch_ours}

    def fetch_bare(self, cache: Path) -> None:
        environment = os.environ | QUIET | {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.folder / "home")}
        subprocess.run([sys.executable, "-c", LIBRARY, REPO, cache], env=environment, check=True)

    def fetch_by_hand(self, cache: Path) -> None:
        self.fetch_bare(cache)
        subprocess.run(["sh", "-c", CHECK, cache], check=True)

    def fetch_ours(self, cache: Path) -> None:
        snapshot = read_hub(REPO, revision="main", endpoint=self.endpoint, token="", wait_seconds=30)
        order = {
            "repo_id": REPO,
            "commit": snapshot.commit,
            "ref": "main",
            "files": [asdict(file) for file in snapshot.files],
            "root": {"path": str(cache), "uuid": ""},
            "takes_links": True,
            "endpoint": self.endpoint,
        }
        with run_errand(Errand("registry.fetch", order, environment=QUIET)) as lines:
            for _ in lines:
                continue

    def time(self, work: Work) -> float:
        """Seconds for one download into a new cache."""
        os.sync()
        with tempfile.TemporaryDirectory(dir=self.folder) as cache:
            started = time.perf_counter()
            work(Path(cache))
            return time.perf_counter() - started


@contextmanager
def hub_of(repos: Path, *, rate_mb_per_second: float | None) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--rate-mb-per-second", str(rate_mb_per_second)] if rate_mb_per_second else []
    command = [sys.executable, "-m", "demo.hub", "--repos", repos, "--port", str(port), *options]
    with subprocess.Popen(command) as hub:
        try:
            yield wait_for(f"http://127.0.0.1:{port}")
        finally:
            hub.terminate()


def wait_for(endpoint: str) -> str:
    """Until the hub has hashed its files and answers."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"{endpoint}/api/models/{REPO}", timeout=60):
                return endpoint
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def measure(bench: Bench, *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one round that warms the page cache."""
    times: dict[str, list[float]] = {name: [] for name in bench.works}
    for number in range(rounds + 1):
        order = list(bench.works.items())
        turn = number % len(order)
        for name, work in order[turn:] + order[:turn]:
            seconds = bench.time(work)
            times[name] += [seconds] if number else []
    return times


def show(times: dict[str, list[float]], *, size_bytes: int) -> None:
    bare = statistics.median(times[BARE])
    print(f"{'seconds':<38}{'min':>8}{'median':>8}{'max':>8}{'MB/s':>8}{'of bare':>9}")
    for name, found in times.items():
        median = statistics.median(found)
        spread = f"{min(found):8.2f}{median:8.2f}{max(found):8.2f}"
        print(f"{name:<38}{spread}{size_bytes / 1e6 / median:8.0f}{bare / median:9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.transfers_download", description=__doc__)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--megabytes", type=float, default=256, help="of each file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate-mb-per-second", type=float, help="of each file's answer; no limit by default")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the drive to fill")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="homelab-bench-") as folder:
        repos, size = Path(folder) / "repos", round(chosen.megabytes * 10**6)
        weights = {f"model-{number:05}.safetensors": os.urandom(size) for number in range(chosen.files)}
        config = loadable_files(weights=1)["config.json"]
        write_hub_repo(repos, REPO, files=weights | {"config.json": config})
        size_bytes = chosen.files * size
        del weights
        with hub_of(repos, rate_mb_per_second=chosen.rate_mb_per_second) as endpoint:
            show(measure(Bench(endpoint, Path(folder), size_bytes), rounds=chosen.rounds), size_bytes=size_bytes)


if __name__ == "__main__":
    main()
