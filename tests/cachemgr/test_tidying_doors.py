"""The shell and the pages for the trash and for cleaning up: they show first, and ask before something goes for good."""

import io
import json
import shutil
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from cachemgr import chores, locks, monitor, trash
from cachemgr.models import TrashedRepo
from tests.factories import age_tree, loadable_files, make_cached_repo

FOLDER = "models--org--m"
TRASH_LIST = "/admin/cachemgr/trashedrepo/"


@pytest.fixture
def entry(primary) -> TrashedRepo:
    make_cached_repo(Path(primary.path), "org/m", files=loadable_files(weights=300_000))
    (weight,) = chores.weigh(primary, [FOLDER])
    return trash.put(primary, folder=FOLDER, title="mine", remembered={}, weight=weight)


@pytest.fixture
def orphan(primary, nothing_is_young) -> Path:
    repo = make_cached_repo(Path(primary.path), "org/m", files=loadable_files())
    blob = repo / "blobs" / ("0" * 64)
    blob.write_bytes(b"x" * 200_000)
    age_tree(repo)
    return blob


def shell(name: str, *words: str) -> str:
    output = io.StringIO()
    call_command(name, *words, stdout=output)
    return output.getvalue()


def text_of(answer) -> str:
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


# The shell


def test_the_shell_lists_the_trash_and_puts_a_model_back(entry) -> None:
    listed = shell("cache_trash")
    assert "mine" in listed and "frees nothing before it is emptied" in listed
    assert json.loads(shell("cache_trash", "--json"))["entries"][0]["title"] == "mine"
    assert "can come back" in shell("cache_trash", "--restore", str(entry.pk), "--dry-run")
    assert trash.entries().exists() and not (Path(entry.cache.path) / FOLDER).exists()
    assert "mine is back" in shell("cache_trash", "--restore", str(entry.pk))
    assert (Path(entry.cache.path) / FOLDER).is_dir() and "The trash is empty" in shell("cache_trash")
    with pytest.raises(CommandError, match="nothing with the number"):
        shell("cache_trash", "--restore", str(entry.pk))


def test_the_shell_empties_the_trash_only_when_it_is_sure(entry) -> None:
    (load,) = trash.weigh_entries([entry])
    assert "mine" in shell("cache_trash", "--empty", "--dry-run")
    assert json.loads(shell("cache_trash", "--empty", "--dry-run", "--json"))["freed_bytes"] == load.weight.freed_bytes
    with pytest.raises(CommandError, match="say --yes"):
        shell("cache_trash", "--empty")
    assert trash.entries().exists()
    assert "Emptied" in shell("cache_trash", "--empty", str(entry.pk), "--yes")
    assert not trash.entries().exists() and "The trash is empty" in shell("cache_trash", "--empty", "--yes")


def test_the_shell_cleans_only_when_it_is_sure(orphan) -> None:
    shown = shell("cache_clean", "--dry-run")
    assert orphan.name in shown and "1 blobs that no revision names" in shown and "would free" in shown
    with pytest.raises(CommandError, match="say --yes"):
        shell("cache_clean", "orphans")
    with pytest.raises(CommandError, match="partials, orphans"):
        shell("cache_clean", "everything", "--yes")
    assert "0 B" in shell("cache_clean", "locks", "--yes") and orphan.exists()
    done = json.loads(shell("cache_clean", "orphans", "--yes", "--json"))
    assert done["freed_bytes"] >= 200_000 and not orphan.exists()
    assert json.loads(shell("cache_clean", "--json"))["count"] == 0


def test_the_shell_says_why_a_cache_is_skipped(orphan, tmp_path) -> None:
    monitor.measure_caches()
    shutil.rmtree(tmp_path / "secondary")
    assert "Is the drive plugged in" in shell("cache_clean", "--dry-run")


def test_the_shell_says_which_repos_are_in_use(orphan, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with locks.shared(orphan.parent.parent):
        assert f"in use, and left alone: {FOLDER}" in shell("cache_clean", "--yes")
    assert orphan.exists()


# The pages


def test_the_clean_up_page_shows_everything_and_removes_what_is_ticked(browser, orphan) -> None:
    page = text_of(browser.get("/settings/clean"))
    assert orphan.name in page and "blobs that no revision names" in page
    assert "Nothing was ticked" in text_of(browser.post("/settings/clean", follow=True)) and orphan.exists()
    assert "There is no class" in text_of(browser.post("/settings/clean", {"classes": ["all"]}, follow=True))
    done = text_of(browser.post("/settings/clean", {"classes": ["orphans", "locks"]}, follow=True))
    assert "1 things are gone" in done and "There is nothing to clean up" in done and not orphan.exists()


def test_the_page_of_the_trash_restores(browser, entry) -> None:
    assert "mine" in text_of(browser.get(TRASH_LIST))
    wish = {"action": "restore_selected", "_selected_action": entry.pk}
    assert "mine is back" in text_of(browser.post(TRASH_LIST, wish, follow=True))
    assert (Path(entry.cache.path) / FOLDER).is_dir() and not trash.entries().exists()


def test_the_page_of_the_trash_says_why_something_cannot_come_back(browser, entry) -> None:
    make_cached_repo(Path(entry.cache.path), "org/m", files=loadable_files())
    wish = {"action": "restore_selected", "_selected_action": entry.pk}
    assert "something else" in text_of(browser.post(TRASH_LIST, wish, follow=True))
    assert trash.entries().exists()


def test_the_page_of_the_trash_asks_with_figures_before_it_empties(browser, entry) -> None:
    wish = {"action": "empty_selected", "_selected_action": entry.pk}
    asked = text_of(browser.post(TRASH_LIST, wish))
    assert "Remove this for good?" in asked and "mine" in asked and trash.entries().exists()
    done = text_of(browser.post(TRASH_LIST, wish | {"sure": "yes"}, follow=True))
    assert "are free again" in done and not trash.entries().exists()
    assert "mine" not in text_of(browser.get(TRASH_LIST)) and TrashedRepo.objects.exists()


def test_nobody_makes_or_edits_entries_by_hand(browser, entry) -> None:
    assert browser.get(f"{TRASH_LIST}add/").status_code == 403
    assert browser.post(f"{TRASH_LIST}{entry.pk}/delete/").status_code == 403
    page = text_of(browser.get(f"{TRASH_LIST}{entry.pk}/change/"))
    assert 'name="_save"' not in page
