"""The same beginning again and again: the database and the model's files, as they were with the model in one place."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.factories import age_tree
from tests.torture.site import FOLDER, NOWHERE, Site
from tests.torture.work import download, finish, first_start, fork, move_to, recover


class Beginnings:
    """NOWHERE: the model is registered, and on no drive yet."""

    def __init__(self, site: Site) -> None:
        self.site = site
        finish(fork(first_start))
        self._keep(NOWHERE)
        finish(fork(download))
        site.add_revision()
        for place in site.caches:
            self._settle_in(place)
            self._keep(place)

    def restore(self, place: str) -> None:
        """The model is in that cache, and nothing else is anywhere."""
        for cache in self.site.caches.values():
            for path in (cache / FOLDER, cache / ".homelab"):
                shutil.rmtree(path, ignore_errors=True)
        kept = self._folder_of(place)
        if place != NOWHERE:
            shutil.copytree(kept / FOLDER, self.site.caches[place] / FOLDER, symlinks=True)
        with closing(sqlite3.connect(kept / "db")) as old, closing(sqlite3.connect(self.site.database)) as now:
            old.backup(now)

    def _settle_in(self, place: str) -> None:
        finish(fork(recover))
        if self.site.place != place:
            finish(fork(move_to(self.site, place)))
        age_tree(self.site.caches[place] / FOLDER)
        finish(fork(recover))

    def _keep(self, place: str) -> None:
        kept = self._folder_of(place)
        kept.mkdir(parents=True)
        if place != NOWHERE:
            shutil.copytree(self.site.caches[place] / FOLDER, kept / FOLDER, symlinks=True)
        with closing(sqlite3.connect(self.site.database)) as now, closing(sqlite3.connect(kept / "db")) as copy:
            now.backup(copy)

    def _folder_of(self, place: str) -> Path:
        return self.site.folder / "kept" / place
