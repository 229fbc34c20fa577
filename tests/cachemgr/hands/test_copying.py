"""Bytes on their way: what they cost, how they are told, and how they are held back."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachemgr.digests import hash_like
from cachemgr.hands.copying import BLOCK_BYTES, Pace, Pump, Unreadable
from tests.cachemgr.hands.trips import FOLDER, PROJECT, make_caches

MB = 10**6


def pace(said: list[dict[str, Any]], *, total_bytes: int = 0, rate_limit: int | None = None, passes: int = 1) -> Pace:
    return Pace(
        lambda **line: said.append(line),
        stage="copying",
        total_bytes=total_bytes,
        rate_limit=rate_limit,
        passes=passes,
    )


def copy(source: Path, target: Path, *, like: str = "") -> tuple[int, str]:
    digest = hash_like(like, size_bytes=source.stat().st_size)
    reader, writer = os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR | os.O_CREAT)
    try:
        return Pump(pace([])).copy_file(reader, writer, digest), digest.hexdigest()
    finally:
        os.close(reader)
        os.close(writer)


SIZES = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 7]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_copy_has_the_bytes_and_the_hash_of_the_file(tmp_path: Path, size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    (tmp_path / "a").write_bytes(content)
    assert copy(tmp_path / "a", tmp_path / "b") == (size_bytes, hashlib.sha256(content).hexdigest())
    assert (tmp_path / "b").read_bytes() == content


def test_a_small_file_is_hashed_as_git_does(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"{}")
    assert copy(tmp_path / "a", tmp_path / "b", like="0" * 40) == (2, hashlib.sha1(b"blob 2\0{}").hexdigest())


def test_files_that_cannot_be_read_do_not_use_the_buffers_up(tmp_path: Path) -> None:
    """A folder opens like a file, and reading it fails."""
    pump = Pump(pace([]))
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(10):
            with pytest.raises(Unreadable, match="Is a directory"):
                pump.hash_file(folder, hash_like("", size_bytes=0))
    finally:
        os.close(folder)


def test_a_rate_limit_is_kept_within_a_tenth(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(3 * MB))
    said: list[dict[str, Any]] = []
    reader = os.open(tmp_path / "a", os.O_RDONLY)
    slow = pace(said, total_bytes=3 * MB, rate_limit=5 * MB)
    started = time.monotonic()
    try:
        Pump(slow).hash_file(reader, hash_like("", size_bytes=3 * MB))
    finally:
        os.close(reader)
    assert 0.5 < time.monotonic() - started < 0.9


def test_one_block_at_a_small_rate_shows_movement_all_the_time() -> None:
    """A job whose figures stand still for a minute is given up, and a block may take longer than that."""
    said: list[dict[str, Any]] = []
    slow = pace(said, total_bytes=BLOCK_BYTES, rate_limit=BLOCK_BYTES // 4)
    slow.add(BLOCK_BYTES)
    assert len({line["bytes"] for line in said}) >= 3
    assert slow.count_bytes == BLOCK_BYTES


def test_bytes_that_are_copied_and_read_back_are_told_once() -> None:
    said: list[dict[str, Any]] = []
    progress = pace(said, total_bytes=100, passes=2)
    progress.add(60)
    progress.tell()
    progress.skip(10)
    progress.add(60)
    progress.tell()
    progress.add(1000)
    progress.tell()
    assert [line["bytes"] for line in said] == [30, 70, 100]


PEAK = """
import sys
from cachemgr.hands import move
places = {name: {"path": path, "uuid": ""} for name, path in zip(("source", "target"), sys.argv[1:])}
move.run({"step": "stage", **places, "folder": "models--org--m", "job": "17"}, say=lambda **line: None)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def test_a_large_file_takes_no_more_than_64_mb_of_memory(tmp_path: Path, mount: Callable[..., Path]) -> None:
    trip = make_caches(tmp_path)
    mount(trip.target, size="250m")
    snapshot = trip.source / FOLDER / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    with open(snapshot / "model.safetensors", "wb") as file:
        file.truncate(200 * MB)
    command = [sys.executable, "-c", PEAK, trip.source, trip.target]
    done = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)
    assert int(done.stdout) * 1024 < 64 * MB
    assert (trip.staging / FOLDER / "snapshots" / ("a" * 40) / "model.safetensors").stat().st_size == 200 * MB
