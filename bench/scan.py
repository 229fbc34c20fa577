"""How long a scan of a large cache takes, against the Hub's own scan and `du -s`, side by side in one run.

    .venv/bin/python -m bench.scan [--repos 500 --revisions 3 --files 40 --rounds 5]
    .venv/bin/python -m bench.scan --million    # peak memory of a scan of a million files
    .venv/bin/python -m bench.scan --growth     # writes docs/pictures/scan_growth.svg

All read the same names, from the page cache. The rounds are interleaved: each of them runs everything once, and the
medians are compared. "in a child" is what the monitor pays for each measurement: a process of its own, a look at the
drive, a test write, and the report sent back as JSON. A full scan has two readers, as on a local disk that does not
turn; a NAS or a hard disk is read by one.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import scan_cache_dir

from bench.big_cache import Shape, build_cache
from bench.growth import Panel, draw_growth
from cachemgr.drives import ProbeRequest, probe_drive
from cachemgr.report import CacheReport, RepoReport
from cachemgr.scan import scan_cache
from tests.factories import age_tree

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "scan_growth.svg"
MILLION = Shape(repos=500, revisions=1, files=1000)
HUB, DU = "scan_cache_dir (huggingface_hub)", "du -s"
FULL, ALONE, AGAIN = "full scan", "full scan, one reader", "unchanged re-scan"
DRAWN = (HUB, DU, FULL, AGAIN)
PEAK = """
import sys
from cachemgr.scan import scan_cache
report = scan_cache(sys.argv[1])
again = scan_cache(sys.argv[1], known={repo.folder: repo for repo in report.repos})
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(len(report.repos), again.reread_count, int(peak.split()[1]))
"""

Work = Callable[[], object]


@contextmanager
def cache_of(shape: Shape) -> Iterator[Path]:
    """Old enough to be remembered: a scan does not trust the times of what was made a moment ago."""
    with tempfile.TemporaryDirectory(prefix="homelab-bench-") as folder:
        cache = Path(folder) / "hub"
        build_cache(cache, shape)
        age_tree(cache)
        print(shape.words, flush=True)
        yield cache


def remembered(report: CacheReport) -> dict[str, RepoReport]:
    return {repo.folder: repo for repo in report.repos}


def in_child(path: Path, known: Mapping[str, RepoReport] | None = None) -> CacheReport:
    request = ProbeRequest(path=str(path), scan=True, known=known)
    report = probe_drive(request, limit_seconds=120, lock_folder=path.parent)
    if report.contents is None:
        raise SystemExit(f"The child did not scan: {report.message}")
    return report.contents


def make_works(path: Path) -> dict[str, Work]:
    known = remembered(scan_cache(str(path)))
    sent = remembered(in_child(path))
    for again in (scan_cache(str(path), known=known), in_child(path, sent)):
        if again.reread_count:
            raise SystemExit(f"{again.reread_count} repos were read again, though nothing changed in them.")
    return {
        HUB: lambda: scan_cache_dir(path),
        DU: lambda: subprocess.run(["du", "-s", path], check=True, capture_output=True),
        FULL: lambda: scan_cache(str(path), readers=2),
        ALONE: lambda: scan_cache(str(path)),
        f"{FULL}, in a child": lambda: in_child(path),
        AGAIN: lambda: scan_cache(str(path), known=known),
        f"{AGAIN}, in a child": lambda: in_child(path, sent),
    }


def measure(works: Mapping[str, Work], *, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each work in each round."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()  # the first one warms the page cache
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - started) * 1000)
    return times


def show(times: Mapping[str, list[float]]) -> None:
    hub, du = statistics.median(times[HUB]), statistics.median(times[DU])
    print(f"{'milliseconds':<34}{'min':>9}{'median':>9}{'max':>9}{'of the Hub':>12}{'of du':>8}")
    for name, found in times.items():
        median = statistics.median(found)
        spread = f"{min(found):9.1f}{median:9.1f}{max(found):9.1f}"
        print(f"{name:<34}{spread}{f'{hub / median:.1f} x':>12}{median / du:8.2f}")


def compare(shape: Shape, *, rounds: int) -> None:
    with cache_of(shape) as cache:
        show(measure(make_works(cache), rounds=rounds))


def weigh_million() -> None:
    with cache_of(MILLION) as cache:
        output = subprocess.run([sys.executable, "-c", PEAK, cache], check=True, capture_output=True, text=True)
    repos, reread, peak_kib = map(int, output.stdout.split())
    print(f"{repos} repos scanned, then {repos - reread} of them as remembered; peak {peak_kib * 1.024 / 1000:.0f} MB")


def watch_growth(shapes: Mapping[int, Shape], *, rounds: int) -> Panel:
    """Medians in milliseconds of each work, over what grows from shape to shape."""
    panel: Panel = {}
    for amount, shape in shapes.items():
        with cache_of(shape) as cache:
            times = measure(make_works(cache), rounds=rounds)
        for name in DRAWN:
            panel.setdefault(name, []).append((amount, statistics.median(times[name])))
    return panel


def draw(*, rounds: int) -> None:
    repos = {count: Shape(repos=count) for count in (50, 100, 200, 400, 800)}
    files = {count * 300: Shape(repos=100, files=count) for count in (10, 20, 40, 80, 160)}
    panels = {
        "repos (of 3 revisions x 40 files)": watch_growth(repos, rounds=rounds),
        "links (in 100 repos of 3 revisions)": watch_growth(files, rounds=rounds),
    }
    PICTURE.write_text(draw_growth(panels), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("repos", "revisions", "files"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Shape(), name))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--million", action="store_true", help="peak memory of a scan of a million files")
    parser.add_argument("--growth", action="store_true", help=f"writes {PICTURE.name}")
    options = parser.parse_args()
    if options.million:
        weigh_million()
    elif options.growth:
        draw(rounds=options.rounds)
    else:
        compare(Shape(options.repos, options.revisions, options.files), rounds=options.rounds)


if __name__ == "__main__":
    main()
