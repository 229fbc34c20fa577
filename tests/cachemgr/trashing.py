"""What tests of the trash do on real folders: put in, look, take out."""

from pathlib import Path

from cachemgr import chores, trash
from cachemgr.hands import trash as in_child
from cachemgr.models import Cache, TrashedRepo

FOLDER = "models--org--m"
STORED = "ab" + "5" * 62


def put(cache: Cache, folder: str = FOLDER) -> TrashedRepo:
    (weight,) = chores.weigh(cache, [folder])
    return trash.put(cache, folder=folder, title=folder, remembered={}, weight=weight)


def home(entry: TrashedRepo) -> Path:
    return Path(entry.cache.path) / ".homelab" / "trash" / entry.name


def empty_all() -> int:
    return trash.empty(trash.weigh_entries(trash.entries()))


def do_here(cache: Cache, **order) -> None:
    """As the child does it, without its start."""
    in_child.run({"root": {"path": cache.path, "uuid": cache.uuid}, "folder": FOLDER} | order, say=lambda **_: None)
