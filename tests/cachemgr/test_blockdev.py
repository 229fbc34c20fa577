"""The disks under a filesystem, on real loop devices. Nothing here opens a file of the drive that it asks about."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cachemgr.blockdev import backing_file, disks_of, io_mark, is_rotational
from tests.cachemgr.conftest import make_image
from tests.e2e.server import wait_for

Mount = Callable[..., Path]


@pytest.fixture
def image_drive(mount: Mount, tmp_path: Path) -> Path:
    return mount(tmp_path / "hub", image=make_image(tmp_path / "image"))


@pytest.mark.root
def test_the_disk_of_an_image_is_its_loop_device_and_leads_to_the_file(image_drive: Path) -> None:
    device = image_drive.stat().st_dev
    (disk,) = disks_of(device)
    assert Path(disk).name.startswith("loop") and Path(disk, "queue").is_dir()
    assert backing_file(device) == str(image_drive.with_name("image"))
    told = Path(disk, "queue/rotational").read_text().strip() == "1"
    assert is_rotational(device) == told


@pytest.mark.root
def test_a_mark_stays_while_a_disk_rests_and_changes_with_each_write(image_drive: Path) -> None:
    device = image_drive.stat().st_dev

    def settle() -> str:
        subprocess.run(["sync", "-f", str(image_drive)], check=True)
        return io_mark(device)

    wait_for(lambda: settle() == settle())
    before = io_mark(device)
    assert before and io_mark(device) == before
    (image_drive / "file").write_bytes(b"x" * 8192)
    assert settle() != before


@pytest.mark.root
def test_a_filesystem_that_was_found_by_its_source_has_the_same_disk(image_drive: Path) -> None:
    """Btrfs has a device number of its own, so its disks are found by what was mounted."""
    source = f"/dev/{Path(disks_of(image_drive.stat().st_dev)[0]).name}"
    without_disk = os.makedev(0, 12345)
    assert disks_of(without_disk, source=source) == disks_of(image_drive.stat().st_dev)
    assert io_mark(without_disk, source=source) == io_mark(image_drive.stat().st_dev)


@pytest.mark.root
def test_memory_and_networks_have_no_disk(mount: Mount, tmp_path: Path) -> None:
    device = mount(tmp_path / "hub").stat().st_dev
    for source in ("tmpfs", "nas:/export", "//nas/share", "/dev/no-such-disk", ""):
        assert disks_of(device, source=source) == () and io_mark(device, source=source) == ""
        assert not is_rotational(device, source=source)
    assert backing_file(device) is None


def test_partitions_lead_to_their_disk_and_stacked_devices_to_all_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Laid out as the kernel lays out LVM on two disks, one of them partitioned."""
    devices = tmp_path / "devices"
    for name, turns, reads in (("sda", 1, 7), ("sdb", 0, 9)):
        (devices / name / "queue").mkdir(parents=True)
        (devices / name / "queue" / "rotational").write_text(f"{turns}\n")
        (devices / name / "stat").write_text(f" 1 0 {reads} 0 2 0 3 0 0 0 0\n")
    (devices / "sda" / "sda1").mkdir()
    (devices / "sda" / "sda1" / "partition").write_text("1\n")
    slaves = devices / "dm-0" / "slaves"
    slaves.mkdir(parents=True)
    (slaves / "sda1").symlink_to(devices / "sda" / "sda1")
    (slaves / "sdb").symlink_to(devices / "sdb")
    (tmp_path / "dev" / "block").mkdir(parents=True)
    for number, target in (("253:0", "dm-0"), ("8:1", "sda/sda1")):
        (tmp_path / "dev" / "block" / number).symlink_to(devices / target)
    monkeypatch.setattr("cachemgr.blockdev._SYS", str(tmp_path))
    stacked, partition = os.makedev(253, 0), os.makedev(8, 1)
    assert disks_of(stacked) == (str(devices / "sda"), str(devices / "sdb")) and disks_of(partition) == (
        str(devices / "sda"),
    )
    assert is_rotational(stacked) and is_rotational(partition)
    assert (io_mark(stacked), io_mark(partition)) == ("sda:7-3 sdb:9-3", "sda:7-3")
