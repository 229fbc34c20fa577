"""The same beginning again and again: the database and the model's files, as they were with the model in one place."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.factories import age_tree
from tests.torture.site import FOLDER, Site
from tests.torture.work import finish, fork, move_to, recover


class Beginnings:
    def __init__(self, site: Site) -> None:
        self.site = site
        self._kept: dict[str, Path] = {}
        for place in site.caches:
            self._keep(place)

    def restore(self, place: str) -> None:
        """The model is in that cache, and nothing else is anywhere."""
        for cache in self.site.caches.values():
            for path in (cache / FOLDER, cache / ".homelab"):
                shutil.rmtree(path, ignore_errors=True)
        kept, here = self._kept[place], self.site.caches[place] / FOLDER
        shutil.copytree(kept / FOLDER, here, symlinks=True)
        with closing(sqlite3.connect(kept / "db")) as old, closing(sqlite3.connect(self.site.database)) as now:
            old.backup(now)

    def _keep(self, place: str) -> None:
        if self.site.place != place:
            finish(fork(move_to(self.site, place)))
        here, kept = self.site.caches[place] / FOLDER, self.site.folder / "kept" / place
        age_tree(here)
        finish(fork(recover))
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        shutil.copytree(here, kept / FOLDER, symlinks=True)
        with closing(sqlite3.connect(self.site.database)) as now, closing(sqlite3.connect(kept / "db")) as copy:
            now.backup(copy)
        self._kept[place] = kept
