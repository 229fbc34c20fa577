"""Weights are brought into the page cache in order, with progress, and only as far as there is room."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.engine.reading import BLOCK_BYTES, ReadAhead, count_free_bytes, is_cached

ROOM = 10**12


@pytest.fixture
def cold_file(tmp_path: Path) -> Path:
    """Five blocks and a bit, on the disk only."""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as stream:
        for number in range(5):
            stream.write(bytes([number]) * BLOCK_BYTES)
        stream.write(b"end")
    return drop(path)


def drop(path: Path) -> Path:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    if any(list_cached(path)):
        pytest.skip("This filesystem keeps its pages.")
    return path


def list_cached(path: Path) -> list[bool]:
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # a look brings nothing
    try:
        return [is_cached(descriptor, offset=number * BLOCK_BYTES, length=BLOCK_BYTES) for number in range(5)]
    finally:
        os.close(descriptor)


def read(*paths: Path, free_bytes: int = ROOM) -> ReadAhead:
    reading = ReadAhead(paths, free_bytes=free_bytes)
    reading.start()
    reading._thread.join(timeout=60)
    return reading


def test_all_is_in_memory_in_the_end(cold_file: Path) -> None:
    reading = read(cold_file)
    assert reading.bytes_done == reading.bytes_total == 5 * BLOCK_BYTES + 3
    assert list_cached(cold_file) == [True] * 5


def test_what_is_in_memory_already_is_not_read_again(cold_file: Path) -> None:
    read(cold_file)
    reading = read(cold_file)
    assert (reading.bytes_done, reading._fetched_bytes) == (reading.bytes_total, 0)


def test_no_more_is_read_than_fits(cold_file: Path) -> None:
    """256 MiB are kept free in any case."""
    reading = read(cold_file, free_bytes=256 * 1024**2 + 2 * BLOCK_BYTES)
    assert reading.bytes_done == 2 * BLOCK_BYTES
    assert list_cached(cold_file) == [True, True, False, False, False]


def test_a_file_is_read_from_its_beginning_to_its_end(cold_file: Path) -> None:
    """As the kernel sees it."""
    code = f"from pathlib import Path; from tests.inference.engine.test_reading import read; read(Path({str(cold_file)!r}))"
    trace = cold_file.parent / "trace"
    command = ["strace", "-f", "-e", "trace=preadv,preadv2,fadvise64", "-o", str(trace), sys.executable, "-c", code]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except FileNotFoundError:
        pytest.skip("strace is not installed.")
    offsets = [int(each) for each in re.findall(rf"iov_len={BLOCK_BYTES}}}\], 1, (\d+)", trace.read_text())]
    assert offsets == [number * BLOCK_BYTES for number in range(5)]


def test_a_file_that_went_away_is_left_to_the_loader(tmp_path: Path, cold_file: Path) -> None:
    gone = tmp_path / "gone.safetensors"
    gone.write_bytes(b"x")
    reading = ReadAhead([gone, cold_file], free_bytes=ROOM)
    gone.unlink()
    reading.start()
    reading.wait_if_slow()
    reading._thread.join(timeout=60)
    assert reading.bytes_done == 0


def test_a_slow_drive_is_waited_for_and_a_fast_one_is_not(cold_file: Path) -> None:
    reading = ReadAhead([cold_file], free_bytes=ROOM)
    reading._fetched_bytes = 2 * BLOCK_BYTES
    reading._started = time.monotonic() - 1
    assert reading._is_slow()
    reading._started = time.monotonic() - 0.01
    assert not reading._is_slow()


def test_free_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       100 kB\nMemFree:        10 kB\nMemAvailable:   50 kB\n")
    assert count_free_bytes(path) == 50 * 1024
    assert count_free_bytes() > 0
