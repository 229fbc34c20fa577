"""An open cache is that cache, whatever its path leads to later."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cachemgr.hands.errors import Trouble
from cachemgr.hands.root import open_root
from cachemgr.marker import write_marker


def place(path: Path, uuid: str = "") -> dict[str, str]:
    return {"path": str(path), "uuid": uuid}


@pytest.mark.parametrize("uuid", ["", "mine"])
def test_a_cache_that_is_there_opens_and_stays_there(tmp_path: Path, uuid: str) -> None:
    write_marker(str(tmp_path), uuid="mine")
    with open_root(place(tmp_path, uuid)) as root:
        root.still_there()


def gone(path: Path, uuid: str = "") -> str:
    with pytest.raises(Trouble) as trouble, open_root(place(path, uuid)):
        pass
    assert (trouble.value.code, trouble.value.is_permanent) == ("cache_unavailable", False)
    return trouble.value.message


def test_a_cache_without_its_marker_or_with_another_one_does_not_open(tmp_path: Path) -> None:
    assert "has no marker" in gone(tmp_path, "mine")
    write_marker(str(tmp_path), uuid="another")
    assert "carries the marker another, not mine" in gone(tmp_path, "mine")
    assert "No such file" in gone(tmp_path / "nowhere")


def test_a_marker_that_goes_is_noticed(tmp_path: Path) -> None:
    write_marker(str(tmp_path), uuid="mine")
    with open_root(place(tmp_path, "mine")) as root:
        (tmp_path / ".homelab-cache.json").unlink()
        with pytest.raises(Trouble, match="has no marker"):
            root.still_there()


def test_a_drive_that_is_mounted_over_a_cache_is_noticed(tmp_path: Path, mount: Callable[..., Path]) -> None:
    with open_root(place(tmp_path)) as root:
        mount(tmp_path)
        with pytest.raises(Trouble, match="is another folder now"):
            root.still_there()
        with root.parent("file", make=True) as (folder, name):
            os.close(os.open(name, os.O_CREAT, dir_fd=folder))
        assert list(tmp_path.iterdir()) == []  # the file is where it was meant to be, below the other drive


def test_no_link_is_followed_on_the_way(tmp_path: Path) -> None:
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    (outside / "deeper").mkdir(parents=True)
    (outside / "file").write_text("not ours")
    cache.mkdir()
    (cache / "link").symlink_to(outside)
    (cache / "file").symlink_to(outside / "file")
    with open_root(place(cache)) as root:
        for path in ("link", "link/deeper"):
            with pytest.raises(OSError, match=r"Not a directory|symbolic"), root.folder(path, make=True):
                pass
        for path in ("link/file", "file"):
            with pytest.raises(OSError, match=r"Not a directory|symbolic"), root.file(path):
                pass
        assert root.look_at("link/file") is None and not root.has_folder("link")


def test_folders_are_made_on_the_way_where_that_is_wanted(tmp_path: Path) -> None:
    with open_root(place(tmp_path)) as root:
        with pytest.raises(FileNotFoundError), root.folder("a/b"):
            pass
        for _ in range(2):
            with root.folder("a/b", make=True):
                pass
        assert root.has_folder("a/b") and root.has_folder("") and not root.has_folder("a/b/c")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    (tmp_path / "file").write_text("1")
    with open_root(place(tmp_path)) as root:
        for path in ("a/b/c", "file", "nowhere/at/all"):
            root.look_at(path)
            with pytest.raises(OSError), root.file(path):
                raise OSError
    gone(tmp_path, "mine")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
