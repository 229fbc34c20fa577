"""How fast the answers are that pages ask for all the time, while a drive hangs.

    .venv/bin/python -m bench.api [--requests 400]

The whole server, with 500 models (400 that lie on the fast drive, 100 that are registered and have bytes reserved),
50,000 snapshots, and a real drive (FUSE) that hangs: the monitor's own work on it goes on meanwhile. One client asks
in turn, over one connection that stays open, as a page does. The aim is 50 ms at the 95th percentile.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.e2e.server import Server, free_port, make_environment, running_server, wait_for
from tests.factories import loadable_files, make_cached_repo

READY_MODELS = 400
REGISTERED_MODELS = 100
SNAPSHOTS = 50_000
AIM_MS = 50.0
PATHS = ("/api/cache/stats", "/api/models", "/api/cache/history", "/api/cache/events")
HUNG_DRIVE = Path(__file__).resolve().parent.parent / "tests" / "cachemgr" / "hung_drive.py"


@contextmanager
def hung_drive(path: Path, *, flag: Path) -> Iterator[None]:
    """A mounted FUSE drive that stops answering as soon as the flag is there."""
    path.mkdir()
    with subprocess.Popen([sys.executable, HUNG_DRIVE, path, flag], stdout=subprocess.PIPE, text=True) as driver:
        if driver.stdout.readline() != "mounted\n":
            raise SystemExit("This machine refuses FUSE mounts: run it as root, with /dev/fuse.")
        try:
            yield
        finally:
            flag.unlink(missing_ok=True)
            subprocess.run(["umount", "-l", str(path)], check=True)


def write_past(environment: dict[str, str], **counts: int) -> None:
    """In a process of its own, with the server's settings: see bench.past."""
    options = [f"--{name}={count}" for name, count in counts.items()]
    subprocess.run([sys.executable, "-m", "bench.past", *options], env=environment, check=True)


def register_models(client: httpx2.Client) -> None:
    for number in range(REGISTERED_MODELS):
        body = {"model_name": f"promised-{number}", "hf_path": f"bench/promised-{number}", "estimated_size_mb": 100}
        client.post("/api/models", json=body | {"cache_location": "primary"}).raise_for_status()


def prepare(server: Server, client: httpx2.Client, *, flag: Path) -> None:
    """Until all models are there, and the hanging drive is known to hang."""
    wait_for(lambda: len(client.get("/api/models").json()) >= READY_MODELS, seconds=60)
    register_models(client)
    flag.touch()
    wait_for(lambda: client.post("/api/cache/refresh").json()["secondary"]["status"] == "unresponsive", seconds=60)


def measure_ms(client: httpx2.Client, *, paths: Sequence[str], requests: int) -> dict[str, list[float]]:
    """Of each path, asked in turn; the first answers warm the server up and do not count."""
    took: dict[str, list[float]] = {path: [] for path in paths}
    for round_number in range(requests + 10):
        for path, times in took.items():
            started = time.perf_counter()
            client.get(path).raise_for_status()
            if round_number >= 10:
                times.append((time.perf_counter() - started) * 1000)
    return took


def show(took: dict[str, list[float]], *, aim_ms: float) -> bool:
    """Prints the table. True where the aim is met."""
    print(f"{'milliseconds':<44} {'p50':>7} {'p95':>7} {'max':>7}")
    is_met = True
    for path, times in took.items():
        p95 = statistics.quantiles(times, n=20)[-1]
        is_met = is_met and p95 < aim_ms
        print(f"{path:<44} {statistics.median(times):7.1f} {p95:7.1f} {max(times):7.1f}")
    busy = f"{os.getloadavg()[0]:.1f} processes for {os.cpu_count()} cores"
    print(f"{'met' if is_met else 'MISSED'}: the aim is {aim_ms:.0f} ms at the 95th percentile ({busy})")
    return is_met


def run(folder: Path, *, requests: int) -> bool:
    for number in range(READY_MODELS):
        make_cached_repo(folder / "fast", f"bench/model-{number}", files=loadable_files())
    settings = {"SECONDARY_CACHE_PATH": str(folder / "nas"), "PRIMARY_CACHE_LIMIT_GB": "100"}
    environment = make_environment(folder, port=free_port()) | settings
    with hung_drive(folder / "nas", flag=folder / "hangs"):
        write_past(environment, snapshots=SNAPSHOTS)
        with running_server(folder, **settings) as server, httpx2.Client(base_url=server.url, timeout=30) as client:
            prepare(server, client, flag=folder / "hangs")
            return show(measure_ms(client, paths=PATHS, requests=requests), aim_ms=AIM_MS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=400, help="of each path")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as name:
        is_met = run(Path(name), requests=options.requests)
    sys.exit(0 if is_met else 1)


if __name__ == "__main__":
    main()
