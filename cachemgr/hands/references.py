"""Who leads where: what the links of each repo use outside of its own folder. A repo in the trash still counts, for it
may come back."""

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

from cachemgr.hands.root import Root
from cachemgr.hands.tree import LINK, Tree, read_tree
from cachemgr.layout import STAGING, TRASH, parse_repo_folder


@dataclass(slots=True)
class References:
    """By holder: the path of a repo's folder below the cache. `uses` are paths below the cache. `unread` are folders
    that nobody could look into: what they use is not known."""

    trees: dict[str, Tree] = field(default_factory=dict)
    uses: dict[str, frozenset[str]] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    def used_beside(self, holders: frozenset[str]) -> frozenset[str]:
        """What all others use."""
        return frozenset().union(*(paths for holder, paths in self.uses.items() if holder not in holders))

    def used_by_none_but(self, holders: frozenset[str]) -> frozenset[str]:
        """Empty where somebody could not be read, who may use anything."""
        if self.unread.keys() - holders:
            return frozenset()
        theirs = frozenset().union(*(self.uses.get(holder, frozenset()) for holder in holders))
        return theirs - self.used_beside(holders)


def read_references(root: Root) -> References:
    found = References()
    for holder in _holders(root):
        try:
            tree = read_tree(root, holder)
        except OSError as error:
            found.unread[holder] = f"{holder} cannot be read: {error.strerror}"
            continue
        found.trees[holder] = tree
        found.uses[holder] = _uses(root, tree)
    return found


def _holders(root: Root) -> Iterator[str]:
    yield from repos_in(root, "")
    for house in (TRASH, STAGING):
        for name in folders_in(root, house):
            yield from repos_in(root, f"{house}/{name}")


def repos_in(root: Root, path: str) -> list[str]:
    """Repo folders right in that folder, as paths below the cache."""
    return [f"{path}/{name}" if path else name for name in folders_in(root, path) if parse_repo_folder(name)]


def folders_in(root: Root, path: str) -> list[str]:
    """Names, in order; none where that folder is not."""
    if not root.has_folder(path):
        return []
    with root.folder(path) as descriptor, os.scandir(descriptor) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _uses(root: Root, tree: Tree) -> frozenset[str]:
    """By what the links say, as if the repo lay in its place in the cache, and by where they end now."""
    said = {said_by(root, tree, path) for path in tree.paths(LINK)}
    ends = {end.path for end in tree.ends.values()}
    return frozenset(path for path in said | ends if path and not path.startswith((f"{name_of(tree)}/", tree.folder)))


def name_of(tree: Tree) -> str:
    return tree.folder.rpartition("/")[2]


def said_by(root: Root, tree: Tree, path: str) -> str:
    """Where a link of the repo leads by its text, below the cache, were the repo in its place; "" for a way out."""
    return target_of(root, f"{name_of(tree)}/{path}", tree.entries[path].text)


def target_of(root: Root, link: str, text: str) -> str:
    """Where a link at that path below the cache leads by its text; "" for a way out of the cache."""
    if text.startswith("/"):
        return _below(root, text)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(link), text))
    return "" if target.startswith("..") else target


def _below(root: Root, target: str) -> str:
    for name in (os.path.abspath(root.path), os.path.realpath(root.path)):
        if target.startswith(f"{name}/"):
            return posixpath.normpath(target[len(name) + 1 :])
    return ""
