"""`manage.py cache_stats`, `cache_check`, `cache_scan` and the others that ask: text for people, JSON for programs, an exit status."""

import json
import re
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from cachemgr.layout import MARKER_FILE
from cachemgr.models import Cache, CacheSnapshot
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
        (["primary", "5", "--cache-path", "/x"], "cache_path is for custom only"),
    ],
)
def test_nonsense_is_a_sentence_and_no_traceback(caches, arguments: list[str], sentence: str) -> None:
    refuse("cache_check", *arguments, sentence=sentence)


def refuse(*arguments: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence) as refused:
        call_command(*arguments)
    assert refused.value.returncode == 1


# Recommend


def test_recommend_says_where_and_why(caches) -> None:
    text, status = run("cache_recommend", "5000")
    assert status == 0 and text.startswith("secondary: 5.0 GB fit the secondary cache")
    text, status = run("cache_recommend", "50000")
    assert status == 1 and text.startswith("nowhere: It fits nowhere now.")
    refuse("cache_recommend", "1e400", sentence="estimated_size_mb: '1e400' is not a number of megabytes")


def test_recommend_as_json_is_that_of_the_api(caches, api) -> None:
    text, status = run("cache_recommend", "5000", "--json")
    said, answered = json.loads(text), api.get("/api/cache/recommend", {"estimated_size_mb": 5000}).json()
    assert status == 0 and said.keys() == answered.keys() and said["recommended_cache"] == "secondary"


@pytest.mark.parametrize("command", ["cache_check primary", "cache_recommend"])
def test_what_would_make_room_is_listed(caches, command: str) -> None:
    make_cached_repo(Path(caches.primary.path), "org/old", files=loadable_files(weights=8 * 10**6))
    Cache.objects.filter(pk=caches.secondary.pk).update(limit_bytes=1)
    run("cache_scan")
    text, status = run(*command.split(), "995")
    assert status == 1 and re.search(r"\n  old(: 8.0 MB, never used| \(primary\): 8.0 MB)\n", text), text


# History and events


def test_history_shows_when_how_much_was_used(caches) -> None:
    now = timezone.now()
    for hours, state in ((1, "ok"), (2, "unmounted"), (50, "ok")):
        CacheSnapshot.objects.create(
            cache=caches.primary,
            slot=hours,
            state=state,
            taken_at=now - timedelta(hours=hours),
            used_bytes=hours * 10**8,
        )
    text, status = run("cache_history")
    assert status == 0 and text.startswith(f"primary {caches.primary.path}\n")
    assert "200 MB" in text and "100 MB" in text and "unmounted" in text and "5.0 GB" not in text
    assert "5.0 GB" in run("cache_history", "primary", "--since", "7d")[0]
    points = json.loads(run("cache_history", "primary", "--since", "7d", "--json")[0])
    assert [point["used_bytes"] for point in points] == [50 * 10**8, 2 * 10**8, 10**8]
    assert "No measurement" in run("cache_history", "secondary")[0]


def test_history_refuses_nonsense(caches) -> None:
    refuse("cache_history", "tertiary", sentence="cache: ")
    refuse("cache_history", "primary", "--since", "yesterday", sentence="'yesterday' is no moment")
    refuse("cache_history", "custom", sentence="A custom cache needs cache_path")


def test_events_are_listed_the_newest_first(caches) -> None:
    assert "Nothing happened." in run("cache_events")[0]
    for hours in (30, 2):
        caches.primary.events.create(
            kind="state", after="missing", message=f"[{hours} h]", happened_at=timezone.now() - timedelta(hours=hours)
        )
    text = run("cache_events")[0]
    assert text.index("[2 h]") < text.index("[30 h]")
    (event,) = json.loads(run("cache_events", "--since", "24h", "--json")[0])
    assert (event["message"], event["cache_location"], event["after"]) == ("[2 h]", "primary", "missing")
    refuse("cache_events", "--since", "0d", sentence="'0d' is no moment")


def test_a_path_with_brackets_is_printed_as_it_is(caches, tmp_path: Path) -> None:
    path = tmp_path / "[red] [bold]"
    path.mkdir()
    cache = Cache.objects.create(location="custom", path=str(path))
    make_cached_repo(path, "org/m", files={"[x].txt": b"1"})
    for command in ("cache_scan", "cache_stats", "cache_scan --files org/m"):
        assert f"custom {path}" in run(*command.split())[0]
    assert "[x].txt" in run("cache_scan", "--files", "org/m")[0]
    assert str(path) in run("cache_check", "custom", "1", "--cache-path", cache.path)[0]
    assert f"custom {path}" in run("cache_history", "custom", "--cache-path", cache.path)[0]


# Scan


def test_scan_lists_what_lies_in_each_cache(full_primary: Path) -> None:
    (full_primary / "models--org--m/blobs/x.incomplete").write_bytes(b"h" * 2000)
    (full_primary / "models--org--m/snapshots/\udcff").mkdir()
    text, status = run("cache_scan")
    assert status == 0
    lines = [line.split() for line in text.splitlines()]
    assert ["org/m", "7.1", "kB", "1", "2.0", "kB", "snapshots/\\udcff", "is", "not", "a", "revision"] in lines
    assert "no models here" in text and CacheSnapshot.objects.count() == 2
    (repo,) = json.loads(run("cache_scan", "--json")[0])
    assert (repo["repo_id"], repo["cache_location"], repo["partial_bytes"]) == ("org/m", "primary", 2000)
    assert repo["revisions"][0]["refs"] == ["main"]


def test_scan_names_what_lies_there_and_is_no_model(full_primary: Path) -> None:
    (full_primary / "notes.txt").write_bytes(b"x" * 3000)
    make_cached_repo(full_primary, "org/data", files={"a.csv": b"1,2"}, repo_type="dataset")
    text, _ = run("cache_scan", "--full")
    assert "no model: notes.txt (file, 3.0 kB)" in text and "org/data (dataset)" in text
    assert "3.0 kB here are no models" in run("cache_stats")[0]


def test_the_files_of_one_model_are_listed_on_demand(full_primary: Path) -> None:
    text, status = run("cache_scan", "--files", "org/m")
    assert status == 1 and "org/m lies in no cache" in text
    run("cache_scan")
    text, status = run("cache_scan", "--files", "org/m")
    assert status == 0 and "aaaaaaaa" in text and "config.json" in text and "5.0 kB" in text
    files = json.loads(run("cache_scan", "--files", "org/m", "--json")[0])
    assert {file["name"] for file in files} == {"config.json", "model.safetensors"}
    assert all(file["cache_location"] == "primary" and len(file["digest"]) in (40, 64) for file in files)
    full_primary.rename(f"{full_primary}.away")
    assert "cannot be read now" in run("cache_scan", "--files", "org/m")[0]
    refuse("cache_scan", "--files", "../etc", sentence="is no repo: write org/name")


def test_scan_says_why_a_cache_cannot_be_read(full_primary: Path) -> None:
    run("cache_scan")
    (full_primary / MARKER_FILE).unlink()
    text, status = run("cache_scan")
    assert status == 0 and "Mount the drive." in text and "org/m" in text  # what is known stays
