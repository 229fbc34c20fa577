"""Removing names, one by one and relative to open folders: never a path that may lead elsewhere by then."""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import groupby

from cachemgr.hands.root import Root


def remove_file(root: Root, path: str) -> None:
    """Safe to repeat."""
    with suppress(FileNotFoundError), root.parent(path) as (folder, name):
        os.unlink(name, dir_fd=folder)


def remove_files(root: Root, paths: Iterable[str]) -> None:
    """In that order; those of one folder that come together cost one way to it. Safe to repeat."""
    for above, together in groupby(paths, key=lambda path: path.rpartition("/")[0]):
        with suppress(FileNotFoundError), root.folder(above) as folder:
            for path in together:
                with suppress(FileNotFoundError):
                    os.unlink(path.rpartition("/")[2], dir_fd=folder)


def remove_empty_folders(root: Root, paths: Iterable[str]) -> None:
    """Those in which nothing is left; the paths are sorted here, the deepest first."""
    for path in sorted(paths, key=lambda path: -path.count("/")):
        try:
            with root.parent(path) as (folder, name):
                os.rmdir(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
