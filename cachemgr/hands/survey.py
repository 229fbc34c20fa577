"""Both drives, read before anything is moved: what there is to move, in which layout, by which way, and what lies in
its place."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from cachemgr.hands.errors import Trouble
from cachemgr.hands.layouting import Cargo, lay_out
from cachemgr.hands.manifests import read_known
from cachemgr.hands.root import Root, open_root
from cachemgr.hands.staging import Record
from cachemgr.hands.tree import Tree, read_tree
from cachemgr.layout import STAGING, parse_repo_folder
from cachemgr.trial import FULL

_JOB = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")


@dataclass(frozen=True, slots=True)
class Move:
    """One repo's folder on its way. `rate_limit` is in bytes per second, None for none."""

    source: Root
    target: Root
    folder: str
    job: str
    rate_limit: int | None


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the target takes: symbolic links, hard links of its own files, and hard links of the source's."""

    symlinks: bool
    hard_links: bool
    source_links: bool
    tells_case: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """`standing` is what lies at the target already: "", "same" (all that moves is in it), "other"."""

    cargo: Cargo
    source: Tree
    abilities: Abilities
    standing: str

    @property
    def method(self) -> str:
        return "link" if self.abilities.source_links else "copy"

    @property
    def size_bytes(self) -> int:
        """Of all that moves, as it will lie on the target."""
        return self.cargo.size_bytes(twins_too=not self.abilities.hard_links)

    @property
    def bytes_to_write(self) -> int:
        return 0 if self.abilities.source_links else self.size_bytes


@contextmanager
def open_move(order: dict[str, Any]) -> Iterator[Move]:
    """Raises Trouble where a cache is not there, or the order makes no sense."""
    folder, job = str(order["folder"]), job_of(order)
    if parse_repo_folder(folder) is None:
        raise Trouble(f"{folder!r} is no repo's folder.", code="bad_order")
    with open_root(order["source"]) as source, open_root(order["target"]) as target:
        if (source.device, source.inode) == (target.device, target.inode):
            raise Trouble(f"{folder} is in {target.path} already.", code="same_place")
        yield Move(source, target, folder, job, order.get("rate_limit"))


def job_of(order: Mapping[str, Any]) -> str:
    """The name of its folder in staging. Raises Trouble for what is none."""
    job = str(order["job"])
    if not _JOB.fullmatch(job):
        raise Trouble(f"{job!r} is no job.", code="bad_order")
    return job


def survey_move(move: Move, *, trial: int) -> Survey:
    """`trial` is an open folder on the target in which links are tried, and removed again. Nothing else is changed.

    Raises Trouble for what cannot be moved at all.
    """
    if not move.source.has_folder(move.folder):
        raise Trouble(f"{move.source.path} has no {move.folder}.", code="source_missing")
    tree = read_tree(move.source, move.folder)
    abilities = _try_abilities(move, tree, trial)
    cargo = lay_out(tree, known=read_known(move.source, move.folder), takes_links=abilities.symlinks)
    _refuse_unsafe(move, cargo)
    if not abilities.tells_case:
        _refuse_collisions(move, cargo)
    return Survey(cargo, tree, abilities, _standing(move.target, cargo))


def _standing(target: Root, cargo: Cargo) -> str:
    if target.look_at(cargo.folder) is None:
        return ""
    if not target.has_folder(cargo.folder):
        return "other"
    wanted = Record(cargo.folder, 0, parcels=tuple(cargo.parcels), links=cargo.links)
    return "other" if wanted.lacks(read_tree(target, cargo.folder)) else "same"


def _refuse_unsafe(move: Move, cargo: Cargo) -> None:
    if cargo.unsafe:
        names = ", ".join(cargo.unsafe[:3])
        message = f"{move.folder} has links that lead out of {move.source.path}: {names}. Remove them, or their repo."
        raise Trouble(message, code="unsafe_entry")


def _refuse_collisions(move: Move, cargo: Cargo) -> None:
    """One file would take the place of the other."""
    names = Counter(map(_as_one_case, [*(each.path for each in cargo.parcels), *cargo.links]))
    several = [name for name, count in names.items() if count > 1]
    if several:
        message = f"{move.target.path} takes names that differ in case for the same name, as {several[0]!r} would be."
        raise Trouble(message, code="names_collide")


def _as_one_case(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


# Trials


def _try_abilities(move: Move, tree: Tree, trial: int) -> Abilities:
    """Raises OSError on a drive that takes no files at all. Names are this process's own: another may try as well."""
    name = f"trial-{os.getpid()}"
    link, twin, borrowed = f"{name}-link", f"{name}-twin", f"{name}-borrowed"
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=trial))
    try:
        refuse_alias(move, name)
        return Abilities(
            symlinks=_takes(lambda: os.symlink(name, link, dir_fd=trial)),
            hard_links=_takes(lambda: os.link(name, twin, src_dir_fd=trial, dst_dir_fd=trial, follow_symlinks=False)),
            source_links=_takes(lambda: _borrow(move, tree, trial, borrowed)),
            tells_case=not _is_there(name.upper(), trial),
        )
    finally:
        for each in (name, link, twin, borrowed):
            with suppress(FileNotFoundError):
                os.unlink(each, dir_fd=trial)


def refuse_alias(move: Move, name: str) -> None:
    """`name` is a file in the job's folder on the target. Where the source has it too, both are one folder under two
    mounts (a share of this machine, a pool and a disk in it): what is removed in one is gone from the other."""
    if move.source.look_at(f"{STAGING}/{move.job}/{name}") is not None:
        message = f"{move.source.path} and {move.target.path} are one and the same folder. Nothing has to be moved."
        raise Trouble(message, code="same_place")


def _borrow(move: Move, tree: Tree, trial: int, name: str) -> None:
    """A hard link of one of the source's files. Raises OSError where it is on another filesystem."""
    path = next((end.path for path in tree.entries if (end := tree.content(path))), None)
    if path is None:
        raise OSError("there is no file to try it with")
    link_over(move.source, path, trial, name)


def _takes(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError as error:
        if error.errno in FULL:
            raise
        return False
    return True


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def link_over(source: Root, path: str, folder: int, name: str) -> None:
    """The source's file gets one more name, in an open folder. Raises OSError where that cannot be."""
    with source.parent(path) as (above, own):
        os.link(own, name, src_dir_fd=above, dst_dir_fd=folder, follow_symlinks=False)
