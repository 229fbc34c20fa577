"""Removing a model from the shell and in the admin."""

import io
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from cachemgr import locks, monitor, trash
from registry import services
from registry.models import ModelRegistry
from tests.factories import loadable_files, make_cached_repo

MODELS = "/admin/registry/modelregistry/"


@pytest.fixture
def model(caches) -> ModelRegistry:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(weights=100_000))
    monitor.measure_cache(caches.primary)
    return ModelRegistry.objects.get()


def shell(*words: str) -> str:
    output = io.StringIO()
    call_command("remove", *words, stdout=output)
    return output.getvalue()


def repo_of(model: ModelRegistry) -> Path:
    return Path(services.cache_path_of(model)) / "models--org--m"


def page_of(answer) -> str:
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_the_shell_asks_what_becomes_of_the_files(model) -> None:
    with pytest.raises(CommandError, match="files=trash"):
        shell("m")
    assert "go to the trash" in shell("m", "--dry-run")
    assert json.loads(shell("m", "--dry-run", "--json"))["has_files"]
    assert ModelRegistry.objects.exists() and repo_of(model).is_dir()


def test_the_shell_removes_to_the_trash_and_says_how_to_undo_it(model) -> None:
    said = shell("m", "--files", "trash")
    entry = trash.entries().get()
    assert "Nothing is freed before it is emptied" in said and f"cache_trash --restore {entry.pk}" in said
    assert not ModelRegistry.objects.exists() and not repo_of(model).exists()


def test_the_shell_forgets_the_row_alone(model) -> None:
    assert "left alone" in shell("m", "--files", "keep")
    assert not ModelRegistry.objects.exists() and repo_of(model).is_dir()


def test_the_shell_and_the_admin_remove_the_files_alone(browser, model) -> None:
    with pytest.raises(CommandError, match="keep-row"):
        shell("m", "--files", "keep", "--keep-row")
    assert "The files of m are in the trash" in shell("m", "--files", "trash", "--keep-row")
    assert ModelRegistry.objects.get().status == "registered" and not repo_of(model).exists()
    trash.restore(trash.entries().get())
    wish = {"action": "remove_selected", "_selected_action": model.pk, "files": "trash_alone"}
    assert "stays registered" in page_of(browser.post(MODELS, wish, follow=True))
    assert ModelRegistry.objects.get().status == "registered" and not repo_of(model).exists()


def test_the_shell_says_why_not(model) -> None:
    with locks.shared(repo_of(model)), pytest.raises(CommandError, match="is in use"):
        shell("m", "--files", "trash")
    assert ModelRegistry.objects.exists()


def test_the_admin_asks_what_becomes_of_the_files(browser, model) -> None:
    wish = {"action": "remove_selected", "_selected_action": model.pk}
    asked = page_of(browser.post(MODELS, wish))
    assert "What becomes of the files?" in asked and "Emptying the trash later frees" in asked
    assert ModelRegistry.objects.exists()
    assert "is in the trash" in page_of(browser.post(MODELS, wish | {"files": "trash"}, follow=True))
    assert not ModelRegistry.objects.exists() and trash.entries().get().title == "m"


def test_the_admin_forgets_the_row_alone(browser, model) -> None:
    wish = {"action": "remove_selected", "_selected_action": model.pk, "files": "keep"}
    assert "Its files were left alone" in page_of(browser.post(MODELS, wish, follow=True))
    assert not ModelRegistry.objects.exists() and repo_of(model).is_dir()


def test_the_admin_says_what_stands_in_the_way(browser, model, caches) -> None:
    wish = {"action": "remove_selected", "_selected_action": model.pk}
    with locks.shared(repo_of(model)):
        assert "It is in use now" in page_of(browser.post(MODELS, wish))
        assert "is in use" in page_of(browser.post(MODELS, wish | {"files": "trash"}, follow=True))
    Path(caches.primary.path).rename(f"{caches.primary.path}-away")
    assert "Is the drive plugged in" in page_of(browser.post(MODELS, wish))
    assert ModelRegistry.objects.exists()
