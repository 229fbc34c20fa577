"""How long a move takes, against the same guarantee by hand: `cp -a`, then `sha256sum` on both sides.

    .venv/bin/python -m bench.transfers [--megabytes 1024 --shards 4 --rounds 5] [--throttle 200]
    .venv/bin/python -m bench.transfers --source DIR --target DIR    # two drives of yours

Without folders, one in /tmp and an ext4 image beside it are used, which takes the right to mount. With `--throttle`
the image reads and writes no more than so many MB a second, as a hard disk: the kernel sees to that (cgroup v1).

Rounds are interleaved: each runs everything once, and medians are compared. Before each run the source's pages are
dropped, so that all of them read the drive. A move waits until the bytes are on the drive, drops them from memory, and
reads them back. By hand that is `cp -a`, `sync -f`, and `sha256sum` on both sides with the target's pages dropped in
between ("read back"). "From memory" is what most people would type: its second sha256sum reads what cp left in memory,
and tells nothing about the drive. The copy alone is compared with the slower of the sequential rates that dd gets.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cachemgr.digests import hash_like
from cachemgr.hands.copying import Pace, Pump, drop_pages
from tests.factories import make_cached_repo

FOLDER = "models--org--m"
MB = 10**6
ROOM_BYTES = 10**9
THROTTLE = Path("/sys/fs/cgroup/blkio")
MOVE, READ_BACK, FROM_MEMORY = "move", "by hand, read back", "by hand, from memory"
COPY, READING, WRITING = "copy alone", "reading (dd)", "writing (dd)"
WORK = """
import sys
from cachemgr.hands import move
places = {name: {"path": path, "uuid": ""} for name, path in zip(("source", "target"), sys.argv[1:])}
for step in ("plan", "stage", "publish"):
    done = move.run({"step": step, **places, "folder": "models--org--m", "job": "1"}, say=lambda **line: None)
    assert done.get("method", "copy") == "copy", "both folders are on one filesystem"
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@dataclass(frozen=True)
class Bench:
    """A model in the Hub's layout lies in `source`; whatever is written lies in `target`, and goes after each run."""

    source: Path
    target: Path

    @property
    def repo(self) -> Path:
        return self.source / FOLDER

    @property
    def copy(self) -> Path:
        return self.target / FOLDER

    @property
    def size_bytes(self) -> int:
        return sum(blob.stat().st_size for blob in self.blobs(self.repo))

    def blobs(self, repo: Path) -> list[Path]:
        return sorted((repo / "blobs").iterdir())


@contextmanager
def drives(options: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="homelab-bench-", dir=options.source) as near:
        if options.target is not None:
            with tempfile.TemporaryDirectory(prefix="homelab-bench-", dir=options.target) as far:
                yield Path(near), Path(far)
            return
        size_bytes = 2 * options.megabytes * MB + ROOM_BYTES
        with image_drive(Path(near), size_bytes=size_bytes) as drive, throttled(drive, rate=options.throttle * MB):
            yield Path(near), drive


@contextmanager
def image_drive(folder: Path, *, size_bytes: int) -> Iterator[Path]:
    """An ext4 image without holes."""
    image, drive = folder / "image", folder / "drive"
    drive.mkdir()
    with open(image, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    run("/sbin/mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    run("mount", "-o", "loop", image, drive)
    try:
        yield drive
    finally:
        run("umount", drive)


@contextmanager
def throttled(drive: Path, *, rate: int) -> Iterator[None]:
    """0 is no limit."""
    number = drive.stat().st_dev
    limit_drive(f"{os.major(number)}:{os.minor(number)}", rate=rate)
    try:
        yield
    finally:
        limit_drive(f"{os.major(number)}:{os.minor(number)}", rate=0)


def limit_drive(device: str, *, rate: int) -> None:
    for way in ("read", "write"):
        file = THROTTLE / f"blkio.throttle.{way}_bps_device"
        if rate or file.exists():
            file.write_text(f"{device} {rate}\n")


def run(*command: object) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def build(source: Path, *, megabytes: int, shards: int) -> None:
    """Weights in equal shards, and ten small files."""
    size_bytes = megabytes * MB // shards
    files = {f"notes-{number}.json": b"{}" + b" " * number for number in range(10)}
    make_cached_repo(source, "org/m", files=files)
    blobs, snapshot = source / FOLDER / "blobs", source / FOLDER / "snapshots" / ("a" * 40)
    for number in range(shards):
        digest, part = hashlib.sha256(), blobs / "part"
        with open(part, "wb") as file:
            for _ in range(size_bytes // MB):
                block = os.urandom(MB)
                digest.update(block)
                file.write(block)
        part.rename(blobs / digest.hexdigest())
        (snapshot / f"model-{number + 1}.safetensors").symlink_to(f"../../blobs/{digest.hexdigest()}")


def forget(folder: Path) -> None:
    """Its bytes are on the drive, and no longer in memory."""
    run("sync", "-f", folder)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            drop_pages(descriptor)
            os.close(descriptor)


# What is measured


def move(bench: Bench) -> int:
    """In a process of its own, start included; answers the most memory it took, in bytes."""
    return int(run(sys.executable, "-c", WORK, bench.source, bench.target)) * 1024


def by_hand(bench: Bench) -> None:
    run("cp", "-a", bench.repo, bench.copy)
    forget(bench.copy)
    compare_hashes(bench)


def by_hand_from_memory(bench: Bench) -> None:
    run("cp", "-a", bench.repo, bench.copy)
    compare_hashes(bench)


def compare_hashes(bench: Bench) -> None:
    ours, theirs = (run("sha256sum", *bench.blobs(repo)).split()[::2] for repo in (bench.repo, bench.copy))
    if ours != theirs:
        raise SystemExit("cp made no equal copy.")


def copy_alone(bench: Bench) -> None:
    """The part of a move in which bytes go from drive to drive, until they are there."""
    pump = Pump(Pace(lambda **_: None, stage="", total_bytes=0, rate_limit=None))
    bench.copy.mkdir()
    for blob in bench.blobs(bench.repo):
        reader = os.open(blob, os.O_RDONLY)
        writer = os.open(bench.copy / blob.name, os.O_RDWR | os.O_CREAT)
        pump.copy_file(reader, writer, hash_like(blob.name, size_bytes=blob.stat().st_size))
        os.close(reader)
        os.close(writer)


def read(bench: Bench) -> None:
    for blob in bench.blobs(bench.repo):
        run("dd", f"if={blob}", "of=/dev/null", "bs=4M")


def write(bench: Bench) -> None:
    bench.copy.mkdir()
    for blob in bench.blobs(bench.repo):
        run(
            "dd",
            "if=/dev/zero",
            f"of={bench.copy / blob.name}",
            "bs=1M",
            f"count={blob.stat().st_size // MB}",
            "conv=fsync",
        )


WORKS: Mapping[str, Callable[[Bench], int | None]] = {
    MOVE: move,
    READ_BACK: by_hand,
    FROM_MEMORY: by_hand_from_memory,
    COPY: copy_alone,
    READING: read,
    WRITING: write,
}


def measure(bench: Bench, *, rounds: int) -> tuple[dict[str, list[float]], int]:
    """Seconds of each work in each round, and the most memory that a move took."""
    times: dict[str, list[float]] = {name: [] for name in WORKS}
    peak_bytes = 0
    for number in range(rounds):
        for name, work in WORKS.items():
            forget(bench.repo)
            started = time.perf_counter()
            peak_bytes = max(peak_bytes, work(bench) or 0)
            times[name].append(time.perf_counter() - started)
            clear(bench.target)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return times, peak_bytes


def clear(folder: Path) -> None:
    for name in (FOLDER, ".homelab"):
        shutil.rmtree(folder / name, ignore_errors=True)
    run("sync", "-f", folder)


def show(times: Mapping[str, list[float]], *, size_bytes: int, peak_bytes: int) -> None:
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"{size_bytes / MB:.0f} MB{'':<20}{'min s':>8}{'median s':>10}{'max s':>8}{'MB/s':>8}{'of the move':>13}")
    for name, found in times.items():
        spread = f"{min(found):8.2f}{medians[name]:10.2f}{max(found):8.2f}"
        print(f"{name:<27}{spread}{size_bytes / MB / medians[name]:8.0f}{medians[name] / medians[MOVE]:13.2f}")
    slower = max(medians[READING], medians[WRITING])
    print(f"the copy alone runs at {100 * slower / medians[COPY]:.0f} % of the slower sequential rate")
    print(f"a move took {peak_bytes / MB:.0f} MB of memory at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--throttle", type=int, default=0, help="MB a second that the image takes")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--target", type=Path)
    options = parser.parse_args()
    with drives(options) as (source, target):
        build(source, megabytes=options.megabytes, shards=options.shards)
        bench = Bench(source, target)
        times, peak_bytes = measure(bench, rounds=options.rounds)
        show(times, size_bytes=bench.size_bytes, peak_bytes=peak_bytes)


if __name__ == "__main__":
    main()
