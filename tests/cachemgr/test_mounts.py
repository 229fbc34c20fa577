"""Which filesystem a path leads to, by text and by real mounts."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachemgr import mounts
from cachemgr.mounts import Mount, do_overlap, inner_path, mount_of, read_mounts, true_place


def place(path: Path) -> tuple[int, str]:
    return true_place(str(path), mounts=read_mounts())


def at(path: str, *, number: int, parent: int, root: str = "/") -> Mount:
    return Mount(number, parent, device=number, root=root, point=path, kind="ext4", source="/dev/sdx")


def test_the_kernels_lines_are_read_with_their_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "40 21 0:52 /Fotos\\040&\\040more /mnt/a\\040b\\134c\\011d rw - cifs //nas/sh\\040are rw,vers=3\n"
        "41 21 259:7 / /data rw master:2 propagate_from:1 - btrfs /dev/nvme0n1p7 rw\n"
    )
    (tmp_path / "mountinfo").write_text(lines)
    monkeypatch.setattr(mounts, "MOUNTINFO", str(tmp_path / "mountinfo"))
    root, share, data = read_mounts()
    assert (root.point, root.device, root.kind, root.source) == ("/", os.makedev(8, 1), "ext4", "/dev/sda1")
    assert (share.point, share.root, share.source) == ("/mnt/a b\\c\td", "/Fotos & more", "//nas/sh are")
    assert (data.kind, data.device) == ("btrfs", os.makedev(259, 7))


def test_the_deepest_mount_on_the_way_is_meant_unless_another_hides_it() -> None:
    root, mnt = at("/", number=1, parent=0), at("/mnt", number=2, parent=1)
    inner, hidden = at("/mnt/x", number=3, parent=2), at("/mnt/x/y", number=4, parent=3)
    over = at("/mnt/x", number=5, parent=3)  # mounted later, on top of the third
    table = [root, mnt, inner, hidden, over]
    found = {path: mount_of(path, mounts=table).number for path in ("/", "/mntx", "/mnt", "/mnt/x", "/mnt/x/y/z")}
    assert found == {"/": 1, "/mntx": 1, "/mnt": 2, "/mnt/x": 5, "/mnt/x/y/z": 5}
    assert mount_of("/mnt/x/y/z", mounts=table[:-1]).number == 4
    assert mount_of("/a", mounts=[]) is None and true_place("/a", mounts=[]) == (0, "/a")


@pytest.mark.parametrize(
    ("root", "point", "path", "inner"),
    [
        ("/", "/", "/a/b", "/a/b"), ("/", "/", "/", "/"), ("/", "/mnt", "/mnt", "/"), ("/", "/mnt", "/mnt/a", "/a"),
        ("/sub/vol", "/mnt", "/mnt", "/sub/vol"), ("/sub", "/mnt", "/mnt/a", "/sub/a"),
    ],
)  # fmt: skip
def test_a_place_inside_a_filesystem_has_one_name(root: str, point: str, path: str, inner: str) -> None:
    assert inner_path(path, mount=at(point, number=1, parent=0, root=root)) == inner


PLACES = st.lists(st.sampled_from("ab"), max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(PLACES, PLACES, st.integers(0, 1), st.integers(0, 1))
def test_places_overlap_when_one_is_the_others_ancestor_on_one_device(
    one: str, other: str, device: int, second: int
) -> None:
    nested = Path(one).is_relative_to(other) or Path(other).is_relative_to(one)
    assert do_overlap((device, one), (second, other)) == do_overlap((second, other), (device, one))
    assert do_overlap((device, one), (second, other)) == (device == second and nested)


@pytest.mark.root
def test_a_folder_seen_by_a_bind_mount_is_the_same_place(mount: Callable[..., Path], tmp_path: Path) -> None:
    drive, other = mount(tmp_path / "a drive"), mount(tmp_path / "other")
    (drive / "hub" / "deep").mkdir(parents=True)
    bound = mount(tmp_path / "bound", bind=drive / "hub")
    assert place(bound / "deep") == place(drive / "hub" / "deep") == (drive.stat().st_dev, "/hub/deep")
    assert do_overlap(place(drive), place(bound)) and not do_overlap(place(other), place(bound))
    mount(bound)  # over it
    assert not do_overlap(place(drive), place(bound / "deep"))


def test_every_folder_of_this_machine_has_the_mount_that_the_kernel_says(tmp_path: Path) -> None:
    table = read_mounts()
    for path in {tmp_path, *tmp_path.parents, Path("/proc"), Path("/sys"), Path("/dev/shm")}:
        real = os.path.realpath(path)
        folder = os.open(real, os.O_PATH)
        number = int(Path(f"/proc/self/fdinfo/{folder}").read_text().partition("mnt_id:")[2].split()[0])
        os.close(folder)
        assert mount_of(real, mounts=table).number == number
