"""`manage.py cache_adopt`: what its owner allows, on real folders and drives."""

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from cachemgr.layout import MARKER_FILE
from cachemgr.models import Cache
from cachemgr.monitor import measure_cache
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db


def adopt(*arguments: str) -> tuple[str, int]:
    """What the command printed, and its exit status."""
    out = StringIO()
    try:
        call_command("cache_adopt", *arguments, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(ended.code or 0)
    return out.getvalue(), 0


def marker_of(folder: Path) -> str:
    return json.loads((folder / MARKER_FILE).read_text())["uuid"]


@pytest.fixture
def below_mount_root(caches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The secondary cache: below a mount root, with nothing mounted there."""
    monkeypatch.setattr("cachemgr.drives.MOUNT_ROOTS", (tmp_path,))
    return Path(caches.secondary.path)


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_folder_under_no_drive_is_made_a_cache_by_its_owners_word(below_mount_root: Path, state: str) -> None:
    if state == "missing":
        below_mount_root.rmdir()
    text, status = adopt("secondary")
    assert status == 1 and "manage.py cache_adopt secondary --create" in text
    text, status = adopt("secondary", "--create", "--json")
    answer = json.loads(text)
    assert (status, answer["status"], answer["cache_location"]) == (0, "ok", "secondary")
    row = Cache.objects.get(location="secondary")
    assert answer["uuid"] == row.uuid == marker_of(below_mount_root)
    assert measure_cache(row).state == "ok"


def test_what_the_message_offers_is_what_the_command_does(caches) -> None:
    primary = Path(caches.primary.path)
    measure_cache(caches.primary)
    shutil.rmtree(primary)
    text, status = adopt("primary", "--create")
    assert status == 1 and text.strip().endswith(
        "Or begin anew there: manage.py cache_adopt primary --create --replace"
    )
    text, status = adopt("primary", "--create", "--replace")
    assert status == 0 and Cache.objects.get(location="primary").uuid == marker_of(primary)


@pytest.mark.root
def test_a_new_drive_in_place_of_the_old_one_is_taken_with_its_models(
    caches, mount: Callable[..., Path], tmp_path: Path
) -> None:
    secondary = Path(caches.secondary.path)
    measure_cache(caches.secondary)
    old = marker_of(secondary)
    make_cached_repo(mount(secondary), "org/m", files=loadable_files())
    text, status = adopt("secondary")
    assert status == 1 and "Or take this one from now on: manage.py cache_adopt secondary --replace" in " ".join(
        text.split()
    )
    text, status = adopt("secondary", "--replace")
    row = Cache.objects.get(location="secondary")
    assert status == 0 and row.uuid == marker_of(secondary) != old
    assert [repo.repo_id for repo in row.repos.all()] == ["org/m"]


def test_a_custom_cache_needs_an_acceptable_path(caches, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="needs cache_path"):
        adopt("custom")
    with pytest.raises(CommandError, match="allowed"):
        adopt("custom", "--cache-path", "/etc/models", "--create")
    _, status = adopt("custom", "--cache-path", str(tmp_path / "a" / "b"), "--create")
    assert status == 0 and (tmp_path / "a" / "b" / MARKER_FILE).exists()
    assert Cache.objects.get(location="custom").uuid == marker_of(tmp_path / "a" / "b")
