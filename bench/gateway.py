"""How many events a second the gateway alone relays, on one core, and whether its memory stays flat with 200 streams.

    .venv/bin/python -m bench.gateway [--quick]

The web process is the real one, and so are its pool, the process that it starts and the unix socket to it; but what it
starts is a fake engine, which streams as fast as it is read. The web process has a core of its own. The engine and the
client run elsewhere, and neither parses anything. What counts is the processor time that the web process took: on a
quiet machine, where it is the slowest of the three, the client sees nearly the same rate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.serving_sides import end_cleanly
from bench.serving_table import HEADING, Row, describe_load
from tests.e2e.server import PROJECT, Server, end_group, free_port, make_environment

MB = 10**6
STREAMS, OPEN_STREAMS = 8, 200
WANTED_RATE = 20_000.0
GROWTH_MB = 4.0
_ENGINE = Path(__file__).with_name("gateway_engine.py")
_SHIM = """#!/bin/sh
if [ "$1 $2" = "-m inference.engine" ]; then exec "{python}" "{engine}" {core} "$@"; fi
exec "{python}" "$@"
"""
_SAMPLE_SECONDS = 0.25
_COMMIT = "a" * 40


@dataclass(frozen=True)
class Amount:
    """Events of each stream: of the few that are timed, and of the many that are open at once."""

    events: int = 20_000
    rounds: int = 5
    open_events: int = 4_000


FULL, QUICK = Amount(), Amount(events=3_000, rounds=2, open_events=600)


# The web process, with a fake engine


def serve(shim: str, core: int) -> None:
    """In the web process: the shim takes the interpreter's place, and is a fake engine where an engine is started."""
    os.sched_setaffinity(0, {core})
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "homelab.settings")
    from homelab import web
    from homelab.launch.prepare import prepare_database

    prepare_database()
    _register()
    sys.executable = shim
    sys.exit(web.main())


def _register() -> None:
    from cachemgr.services import sync_configured_caches
    from registry.models import ModelRegistry

    sync_configured_caches()
    ModelRegistry.objects.create(model_name="fake", hf_path="bench/fake", status="ready", revision=_COMMIT)


@contextmanager
def web_process(folder: Path, *, core: int) -> Iterator[Server]:
    """Up, with a model that a fake engine will serve."""
    _write_model(folder)
    shim = folder / "interpreter"
    shim.write_text(_SHIM.format(python=sys.executable, engine=_ENGINE, core=core))
    shim.chmod(0o755)
    limits = {"MAX_QUEUED_REQUESTS": str(2 * OPEN_STREAMS), "KEEP_ALIVE": "-1", "ENGINE_STANDBY": "off"}
    environment = make_environment(folder, port=(port := free_port()), **limits)
    command = [sys.executable, "-m", "bench.gateway", "--serve", str(shim), str(core)]
    with open(folder / "terminal.txt", "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=output, text=True, start_new_session=True
        )
    server = Server(process, port, folder / "data", folder / "terminal.txt")
    try:
        server.wait_until_up()
        yield server
    finally:
        end_group(process)


def _write_model(folder: Path) -> None:
    """Real, so that its memory can be planned; nobody reads its weights."""
    from demo.tiny_model import make_tiny_llama
    from tests.factories import make_cached_repo

    make_tiny_llama(folder / "model")
    files = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
    make_cached_repo(folder / "fast", "bench/fake", files=files, commit=_COMMIT)


# What is measured


def measure(folder: Path, *, amount: Amount) -> list[Row]:
    core = min(os.sched_getaffinity(0))
    folder.mkdir(exist_ok=True)
    with web_process(folder, core=core) as server:
        read_streams(server, core=core, streams=STREAMS, events=100)
        return [*_measure_rate(server, core=core, amount=amount), *_measure_many(server, core=core, amount=amount)]


def read_streams(server: Server, *, core: int, streams: int, events: int) -> dict[str, Any]:
    """What bench.gateway_client prints."""
    numbers = [str(number) for number in (server.port, streams, events, core)]
    command = [sys.executable, "-m", "bench.gateway_client", *numbers]
    done = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if found["whole"] != streams:
        raise SystemExit(f"{found['whole']} of {streams} streams were whole. The last one ended with: {found['tail']}")
    return found


def _measure_rate(server: Server, *, core: int, amount: Amount) -> list[Row]:
    web = psutil.Process(server.process.pid)
    rates, core_rates = [], []
    for _ in range(amount.rounds):
        before = sum(web.cpu_times()[:2])
        found = read_streams(server, core=core, streams=STREAMS, events=amount.events)
        rates.append(found["events"] / found["seconds"])
        core_rates.append(found["events"] / (sum(web.cpu_times()[:2]) - before))
    return [
        Row(f"gateway events/s of its core's time, {STREAMS} streams", core_rates, at_least=WANTED_RATE),
        Row("gateway events/s that the client saw", rates),
    ]


class MemoryWatch:
    """While a block runs, the memory of one process in MB, at each look."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.megabytes: list[float] = []
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> "MemoryWatch":
        self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._is_over.wait(_SAMPLE_SECONDS):
            self.megabytes.append(self.process.memory_full_info().pss / MB)

    @property
    def growth_mb(self) -> float:
        """From the second quarter of the time, when all streams are open, to the last."""
        quarter = len(self.megabytes) // 4
        early, late = self.megabytes[quarter : 2 * quarter + 1], self.megabytes[-quarter - 1 :]
        return statistics.median(late) - statistics.median(early)


def _measure_many(server: Server, *, core: int, amount: Amount) -> list[Row]:
    with MemoryWatch(server.process.pid) as watch:
        found = read_streams(server, core=core, streams=OPEN_STREAMS, events=amount.open_events)
    return [
        Row("gateway, whole streams that were open at once", [found["open"]], at_least=OPEN_STREAMS),
        Row(f"gateway memory growth MB in {found['seconds']:.0f} s", [watch.growth_mb], at_most=GROWTH_MB),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few events: to see that it works")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]))
    end_cleanly()
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as folder:
        rows = measure(Path(folder), amount=QUICK if options.quick else FULL)
    print(HEADING, *rows, describe_load(), sep="\n")
    sys.exit(0 if all(row.is_met for row in rows) else 1)


if __name__ == "__main__":
    main()
