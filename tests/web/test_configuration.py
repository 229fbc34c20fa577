"""The configuration as the Settings page shows it: all of `.env.example`, in its groups, and no secret."""

import os
import re
from pathlib import Path

import pytest
from django.conf import settings

from homelab.env import Reading
from web.configuration import env_file, list_configuration, read_example

EXAMPLE = settings.BASE_DIR / ".env.example"


def test_every_setting_of_the_example_is_there_once_with_its_words() -> None:
    text = EXAMPLE.read_text()
    groups = list_configuration()
    assert [group.title for group in groups] == re.findall(r"^# --- (.+) ---$", text, re.M)
    names = [entry.name for group in groups for entry in group.entries]
    assert names == re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=", text, re.M)
    assert all(entry.words in text and len(entry.words) > 10 for group in groups for entry in group.entries)


def test_each_says_where_its_value_comes_from() -> None:
    found = {entry.name: entry for group in list_configuration() for entry in group.entries}
    assert (found["PRIMARY_CACHE_PATH"].shown, found["PRIMARY_CACHE_PATH"].source_words) == (
        os.environ["PRIMARY_CACHE_PATH"],
        "environment",
    )
    assert (found["TRASH_DAYS"].shown, found["TRASH_DAYS"].is_own) == ("7", False)
    assert found["HF_TOKEN"].shown == "not set" and found["REDIS_URL"].shown == "empty"


def test_a_setting_that_the_example_does_not_name_is_shown_all_the_same(settings) -> None:
    settings.CONFIGURATION = [Reading("NEW_ONE", "5", source="file")]
    assert [(group.title, [entry.name for entry in group.entries]) for group in list_configuration()] == [
        ("Others", ["NEW_ONE"])
    ]


def test_without_the_example_there_are_no_words(tmp_path: Path) -> None:
    assert read_example(tmp_path / "none") == {}


@pytest.mark.parametrize(("path", "shown"), [("/srv/box/.env", "/srv/box/.env"), (os.devnull, "")])
def test_the_file_is_named_where_there_is_one(settings, path: str, shown: str) -> None:
    settings.ENV_FILE = Path(path)
    assert env_file() == shown


@pytest.mark.django_db
def test_the_page_says_what_is_ones_own_and_that_a_change_needs_a_start(browser, caches) -> None:
    page = " ".join(browser.get("/settings").content.decode().split())
    assert "After a change, start the server again." in page
    assert "<code>PRIMARY_CACHE_PATH</code>" in page and "hl-source-own" in page
    assert settings.SECRET_KEY not in page
