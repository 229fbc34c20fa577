"""Chores that read many files say so while they read: who waits for them takes silence for a drive that hangs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cachemgr import monitor
from cachemgr.hands import clean, telling, trash
from cachemgr.models import Cache
from tests.cachemgr.trees import share_blob
from tests.factories import age_tree, loadable_files, make_cached_repo

FOLDER = "models--org--m"
COUNT = 40


@pytest.fixture
def speak(caches, monkeypatch) -> Callable[..., int]:
    """`speak(chore, step=...)`: how often the chore would speak, were each file and repo as slow as a word's pause."""
    monitor.measure_cache(caches.primary)
    cache = Cache.objects.get(pk=caches.primary.pk)
    monkeypatch.setattr(telling, "_EVERY_SECONDS", -1.0)

    def run(chore, **order: object) -> int:
        said: list[str] = []
        root = {"path": cache.path, "uuid": cache.uuid}
        chore.run({"root": root} | order, say=lambda **line: said.append(line["stage"]))
        return len(said)

    run.path = Path(cache.path)
    return run


def make_shared_files(path: Path) -> None:
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    for number in range(COUNT):
        share_blob(path, repo, name=f"{number}.safetensors", stored=f"{number:02x}" + "5" * 62, content=b"s")


def make_many_repos(path: Path) -> None:
    for number in range(COUNT):
        repo = make_cached_repo(path, f"org/n{number}", files={"config.json": b"{}"})
        (repo / "blobs" / ("0" * 64)).write_bytes(os.urandom(10))
    age_tree(path)


def test_each_step_of_the_trash_speaks_at_each_file(speak) -> None:
    make_shared_files(speak.path)
    put = {"folder": FOLDER, "name": "t-1"}
    assert speak(trash, step="weigh", holders=[FOLDER]) >= COUNT
    assert speak(trash, step="put", **put) >= COUNT
    assert speak(trash, step="restore", **put) >= COUNT
    speak(trash, step="put", **put)
    assert speak(trash, step="purge", name="t-1") >= COUNT


def test_a_trash_of_many_repos_is_listed_aloud(speak) -> None:
    make_many_repos(speak.path)
    for number in range(COUNT):
        speak(trash, step="put", folder=f"models--org--n{number}", name=f"t-{number}")
    assert speak(trash, step="look") >= COUNT


def test_a_clean_up_speaks_while_it_looks_and_while_it_removes(speak) -> None:
    make_many_repos(speak.path)
    folders = [f"models--org--n{number}" for number in range(COUNT)]
    order = {"classes": ["orphans"], "commits": {}, "busy_folders": [], "open_jobs": [], "min_age_seconds": 0}
    assert speak(clean, step="find", **order) >= 3 * COUNT  # each repo, each blob, each weight
    assert speak(clean, step="remove", folders=folders, **order) >= 3 * COUNT
