"""How fast and how small our server is, side by side with `transformers serve --continuous-batching` and `generate`.

    .venv/bin/python -m bench.serving [--quick] [--only streams first cold memory switch gateway]

All serve a Llama of 134 M random fp32 weights; the client, the requests and the machine are the same. Ours is the whole
server: a request goes through the gateway to an engine. The peer runs twice: with its defaults, and with as many blocks
in its KV cache as ours has. Rounds are interleaved, the first one warms up and does not count, medians are compared.
Exit status 1: a target is missed.

It takes about half an hour on a quiet machine, and most of its memory: by default the peer plans with 60 % of it. The
peer needs FastAPI, which `script/setup --dev` installs. --quick shows in some minutes that all of it works; its figures
say little.
"""

import argparse
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from bench import gateway
from bench.serving_bench import QUICK, Amount, Bench
from bench.serving_loads import measure_cold, measure_memory, measure_switch
from bench.serving_sides import end_cleanly
from bench.serving_speed import measure_first, measure_streams
from bench.serving_table import HEADING, Row, describe_load


def measure_gateway(bench: Bench) -> list[Row]:
    return gateway.measure(bench.folder / "gateway", amount=gateway.QUICK if bench.amount is QUICK else gateway.FULL)


TOPICS: dict[str, Callable[[Bench], list[Row]]] = {
    "streams": measure_streams,
    "first": measure_first,
    "cold": measure_cold,
    "memory": measure_memory,
    "switch": measure_switch,
    "gateway": measure_gateway,
}


def run(topics: Sequence[str], *, amount: Amount) -> bool:
    """Prints the table, topic by topic. True where all targets are met."""
    print(f"transformers {version('transformers')}, torch {version('torch')}, Python {platform.python_version()}")
    is_met = True
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as folder:
        bench = Bench.prepare(Path(folder), amount=amount)
        print(HEADING, flush=True)
        for topic in topics:
            rows = TOPICS[topic](bench)
            print(*rows, f"{'':<4}{topic}: {describe_load()}", sep="\n", flush=True)
            is_met = is_met and all(row.is_met for row in rows)
    print("all targets met" if is_met else "MISSED: see above")
    return is_met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few tokens and rounds: to see that it works")
    parser.add_argument(
        "--only", nargs="+", choices=TOPICS, default=list(TOPICS), metavar="TOPIC", help=", ".join(TOPICS)
    )
    options = parser.parse_args()
    end_cleanly()
    sys.exit(0 if run(options.only, amount=QUICK if options.quick else Amount()) else 1)


if __name__ == "__main__":
    main()
