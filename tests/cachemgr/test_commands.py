"""`manage.py cache_stats`, `cache_check`, `cache_scan`: text for people, JSON for programs, an exit status."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from cachemgr.layout import MARKER_FILE
from cachemgr.models import CacheSnapshot
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[str, int]:
    """What a command printed, and its exit status."""
    out = StringIO()
    try:
        call_command(*arguments, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(ended.code or 0)
    return out.getvalue(), 0


@pytest.fixture
def full_primary(caches) -> Path:
    path = Path(caches.primary.path)
    make_cached_repo(path, "org/m", files=loadable_files(weights=5000))
    return path


def test_stats_say_how_full_each_cache_is_and_when_that_was_seen(full_primary: Path) -> None:
    text, status = run("cache_stats")
    assert status == 0 and "not_measured" in text and "never measured" in text and "disk unknown" in text
    text, status = run("cache_stats", "--refresh")
    assert status == 0 and f"primary {full_primary}: ok" in text
    assert "of 1.0 GB used" in text and "1 models; measured 0 s ago" in text and "secondary" in text


def test_stats_as_json_are_those_of_the_api(full_primary: Path, api) -> None:
    said = json.loads(run("cache_stats", "--refresh", "--json")[0])
    answered = api.get("/api/cache/stats").json()
    assert said["primary"]["model_count"] == 1
    for body in (said, answered):
        for cache in ("primary", "secondary"):
            body[cache].pop("age_seconds")
    assert said == answered


@pytest.mark.parametrize(
    ("arguments", "status", "begin"),
    [
        (["primary", "100"], 0, "100 MB fit: "),
        (["primary", "950"], 0, "Warning: 950 MB fit, but the primary cache"),
        (["primary", "5000"], 1, "5.0 GB do not fit: the primary cache"),
        (["secondary", "5000"], 0, "5.0 GB fit: "),
    ],
)
def test_check_says_whether_it_fits_and_exits_with_one_where_not(
    caches, arguments: list[str], status: int, begin: str
) -> None:
    text, ended = run("cache_check", *arguments)
    assert ended == status and text.startswith(begin)
    text, ended = run("cache_check", *arguments, "--json")
    body = json.loads(text)
    assert (
        ended == status and body["sufficient"] == (status == 0) and body["message"] in run("cache_check", *arguments)[0]
    )


def test_check_takes_a_custom_path(caches, tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    assert run("cache_check", "custom", "1", "--cache-path", f"{tmp_path}/extra")[1] == 0
    assert run("cache_check", "custom", "1", "--cache-path", f"{tmp_path}/none")[1] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["primary", "nan"], "required_space_mb: 'nan' is not a number of megabytes"),
        (["tertiary", "5"], "cache_location"),
        (["custom", "5"], "A custom cache needs cache_path"),
        (["custom", "5", "--cache-path", "/etc"], "/etc lies below no allowed folder"),
    ],
)
def test_nonsense_is_a_sentence_and_no_traceback(caches, arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence) as refused:
        call_command("cache_check", *arguments)
    assert refused.value.returncode == 1


def test_scan_lists_what_lies_in_each_cache(full_primary: Path) -> None:
    (full_primary / "models--org--m/blobs/x.incomplete").write_bytes(b"h" * 2000)
    (full_primary / "models--org--m/snapshots/\udcff").mkdir()
    text, status = run("cache_scan")
    assert status == 0
    lines = [line.split() for line in text.splitlines()]
    assert ["org/m", "7.1", "kB", "1", "2.0", "kB", "snapshots/\\udcff", "is", "not", "a", "revision"] in lines
    assert "nothing here" in text and CacheSnapshot.objects.count() == 2
    (repo,) = json.loads(run("cache_scan", "--json")[0])
    assert (repo["repo_id"], repo["cache_location"], repo["partial_bytes"]) == ("org/m", "primary", 2000)
    assert repo["revisions"][0]["refs"] == ["main"]


def test_scan_says_why_a_cache_cannot_be_read(full_primary: Path) -> None:
    run("cache_scan")
    (full_primary / MARKER_FILE).unlink()
    text, status = run("cache_scan")
    assert status == 0 and "Mount the drive." in text and "org/m" in text  # what is known stays
