"""How fast a drive reads, measured on real drives."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cachemgr.drives import DriveReport
from cachemgr.layout import HOUSE_FOLDER
from tests.cachemgr.conftest import HungDrive
from tests.factories import make_cached_repo

Ask = Callable[..., DriveReport]
MARKER = "11111111-1111"
MB = 10**6


def test_the_largest_blob_is_read_and_nothing_is_written(ask: Ask, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    make_cached_repo(hub, "org/m", files={"model.safetensors": os.urandom(20 * MB), "config.json": b"{}"})
    before = {path: path.lstat().st_mtime_ns for path in hub.rglob("*")}
    report = ask(hub, speed=True)
    assert report.state == "ok" and report.read_bytes_per_second > MB
    assert {path: path.lstat().st_mtime_ns for path in hub.rglob("*")} == before


def test_an_adopted_cache_without_blobs_is_measured_with_a_file_of_our_own_that_goes(ask: Ask, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    assert ask(hub, speed=True).read_bytes_per_second is None  # not ours: nothing is written
    assert ask(hub, adopt=MARKER, speed=True).read_bytes_per_second > MB
    assert list((hub / HOUSE_FOLDER).iterdir()) == []


def test_holes_are_no_bytes_to_measure_with(ask: Ask, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    with open(hub / "holes", "wb") as file:
        file.truncate(100 * MB)
    assert ask(hub, speed=True).read_bytes_per_second is None


@pytest.mark.root
def test_a_small_drive_is_not_filled_to_measure_it(ask: Ask, mount: Callable[..., Path], tmp_path: Path) -> None:
    hub = mount(tmp_path / "hub", size="200m")
    assert ask(hub, adopt=MARKER, speed=True).read_bytes_per_second is None
    assert not (hub / HOUSE_FOLDER).exists()


@pytest.mark.root
def test_a_drive_that_reads_slowly_is_measured_as_slow_in_a_second_or_so(ask: Ask, hung_drive: HungDrive) -> None:
    (hung_drive.path / "blob").write_bytes(bytes(16 * MB))
    hung_drive.slow_down()
    report = ask(hung_drive.path, speed=True)
    assert 0 < report.read_bytes_per_second < 4.5 * MB  # 128 KiB each 30 ms at most
    assert report.duration_seconds < 3.5  # reading all takes 3.8 s
