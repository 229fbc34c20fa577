"""Removing and renaming files and folders of a cache, name by name and relative to open folders: never by a path that
may lead elsewhere by then, and without ever following a link."""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import groupby

from cachemgr.hands.durable import settle, walk
from cachemgr.hands.root import Root
from cachemgr.hands.telling import pulse


def remove(root: Root, path: str) -> None:
    """A file, a link, or a folder with all that is in it. Safe to repeat: what is gone already is no error."""
    found = root.look_at(path)
    if found is None:
        return
    with root.parent(path) as (folder, name):
        if stat.S_ISDIR(found.st_mode):
            _empty(folder, name)
        _unname(folder, name)
        settle(folder)


def _empty(folder: int, name: str) -> None:
    """The deepest first, so that each folder is empty when its turn comes."""
    for folders, names, descriptor in walk(folder, name):
        for each in (*names, *folders):
            _unname(descriptor, each)


def _unname(folder: int, name: str) -> None:
    """By what it is at this moment: a folder that became a link loses the link."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
    pulse.beat()


def remove_file(root: Root, path: str) -> None:
    """Not durable when it returns. Safe to repeat."""
    remove_files(root, [path])


def remove_files(root: Root, paths: Iterable[str], *, on_file: Callable[[str], object] = len) -> None:
    """In that order; those of one folder that come together cost one way to it. Not durable when it returns. Safe to
    repeat. `on_file` hears of each path when its name is gone."""
    for above, together in groupby(paths, key=lambda path: path.rpartition("/")[0]):
        with suppress(FileNotFoundError), root.folder(above) as folder:
            for path in together:
                with suppress(FileNotFoundError):
                    os.unlink(path.rpartition("/")[2], dir_fd=folder)
                pulse.beat()
                on_file(path)


def remove_empty_folders(root: Root, paths: Iterable[str]) -> None:
    """Those in which nothing is left; the paths are sorted here, the deepest first."""
    for path in sorted(paths, key=lambda path: -path.count("/")):
        try:
            with root.parent(path) as (folder, name):
                os.rmdir(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise


def rename(root: Root, source: str, target: str) -> None:
    """To a name that is free, both of them below the cache; durable when it returns. The folders on the way to the
    target are made. Raises OSError; ENOTEMPTY or EEXIST where the target is taken."""
    make_folders(root, target.rpartition("/")[0])
    with root.parent(source) as (before, old), root.parent(target) as (after, new):
        os.rename(old, new, src_dir_fd=before, dst_dir_fd=after)
        settle(after)
        settle(before)


def make_folders(root: Root, path: str) -> None:
    """Each is on the disk before the next one is made in it."""
    if root.has_folder(path):
        return
    names = [name for name in path.split("/") if name]
    for depth in range(len(names)):
        with root.folder("/".join(names[:depth])) as above, suppress(FileExistsError):
            os.mkdir(names[depth], dir_fd=above)
            settle(above)
