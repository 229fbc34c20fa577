"""What the scan makes of downloads under way, links of all kinds, other layouts, and things that are no repo."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cachemgr.report import FileReport, Partial, RepoReport
from cachemgr.report_json import report_to_json
from cachemgr.scan import list_files, scan_cache
from tests.factories import age_tree, loadable_files, make_cached_repo

COMMIT = "a" * 40
SNAPSHOT = f"snapshots/{COMMIT}"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def repo(cache: Path) -> Path:
    return make_cached_repo(cache, "org/m", files=loadable_files())


def scan(repo: Path) -> RepoReport:
    return next(each for each in scan_cache(str(repo.parent)).repos if each.folder == repo.name)


# Downloads under way


def put_partial(repo: Path, name: str, *, age_seconds: float) -> Path:
    path = repo / "blobs" / name
    path.write_bytes(b"half")
    moment = time.time() - age_seconds
    os.utime(path, (moment, moment))
    return path


def test_an_unfinished_download_is_counted_as_partial(repo: Path) -> None:
    whole = scan(repo).size_bytes
    path = put_partial(repo, "abc.1234abcd.incomplete", age_seconds=600)
    report = scan(repo)
    assert (report.size_bytes, report.partial_bytes, report.orphan_count) == (whole + 4, 4, 0)
    assert report.partials == (
        Partial("blobs/abc.1234abcd.incomplete", 4, is_live=False, modified_at=path.stat().st_mtime),
    )
    assert report.revisions[0].is_loadable


@pytest.mark.parametrize(
    ("age_seconds", "is_live"), [(0, True), (100, True), (140, False), (-100, True), (-9000, False)]
)
def test_a_partial_that_was_written_within_two_minutes_is_live(repo: Path, age_seconds: float, is_live: bool) -> None:
    put_partial(repo, "abc.1234abcd.incomplete", age_seconds=age_seconds)
    assert [each.is_live for each in scan(repo).partials] == [is_live]


HOLD_LOCK = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_download_that_waits_for_its_hub_is_live_as_long_as_its_lock_is_held(repo: Path) -> None:
    for name in ("abc.11111111.incomplete", "def.11111111.incomplete"):
        put_partial(repo, name, age_seconds=600)
    put_partial(repo, "abc.22222222.incomplete", age_seconds=300)
    lock = repo.parent / ".locks" / repo.name / "abc.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert not any(each.is_live for each in scan(repo).partials)
    command = [sys.executable, "-c", HOLD_LOCK, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as downloader:
        assert downloader.stdout.readline() == "held\n"
        assert {each.name: each.is_live for each in scan(repo).partials} == {
            "blobs/abc.11111111.incomplete": False,  # of a downloader that died before
            "blobs/abc.22222222.incomplete": True,
            "blobs/def.11111111.incomplete": False,
        }
        downloader.stdin.close()
    assert not any(each.is_live for each in scan(repo).partials)
    with lock.open("w") as ours:
        fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the scan holds none


# Blobs that nobody names


def test_a_blob_that_no_snapshot_names_is_an_orphan(repo: Path) -> None:
    (repo / "blobs" / ("e" * 40)).write_bytes(b"12345")
    report = scan(repo)
    assert (report.orphan_count, report.orphan_bytes, report.file_count) == (1, 5, 2)
    (repo / SNAPSHOT / "late.txt").symlink_to(f"../../blobs/{'e' * 40}")
    report = scan(repo)
    assert (report.orphan_count, report.orphan_bytes, report.file_count) == (0, 0, 3)


@pytest.mark.parametrize(
    "prefix", ["{cache}/models--org--m/blobs", "../../../models--org--m/blobs", "../../refs/../blobs"]
)
def test_a_blob_that_is_named_in_another_way_is_no_orphan_and_counted_once(repo: Path, prefix: str) -> None:
    before = scan(repo)
    link = repo / SNAPSHOT / "config.json"
    target = f"{prefix.format(cache=repo.parent)}/{link.resolve().name}"
    link.unlink()
    link.symlink_to(target)
    after = scan(repo)
    assert (after.orphan_count, after.size_bytes, after.file_count) == (0, before.size_bytes, 2)
    assert after.revisions == before.revisions and not after.problems


@pytest.mark.parametrize("name", ["link", "cache"])
def test_an_absolute_link_counts_whatever_name_the_cache_has_now(repo: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to(repo.parent)
    blob = (repo / SNAPSHOT / "config.json").resolve()
    (repo / SNAPSHOT / "config.json").unlink()
    (repo / SNAPSHOT / "config.json").symlink_to(blob)
    path = tmp_path / "link" if name == "link" else repo.parent
    (report,) = scan_cache(str(path)).repos
    assert report.revisions[0].is_loadable and not report.orphan_count


# Links out of the cache are never followed


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "big").write_bytes(b"x" * 10**5)
    (folder / "config.json").write_text(json.dumps({"model_type": "secret"}))
    return folder


@pytest.mark.parametrize("kind", ["file", "folder", "nothing", "relative", "through a link in the cache"])
def test_a_name_that_leads_out_of_the_cache_is_unsafe_missing_and_not_counted(
    repo: Path, outside: Path, kind: str
) -> None:
    before = scan_cache(str(repo.parent))
    (repo.parent / "door").symlink_to(outside)
    targets = {
        "file": outside / "big",
        "folder": outside,
        "nothing": outside / "gone",
        "relative": "../../../../outside/big",
        "through a link in the cache": "../../../door/big",
    }
    (repo / SNAPSHOT / "out").symlink_to(targets[kind])
    after = scan_cache(str(repo.parent))
    (report,) = after.repos
    assert report.problems == (f"unsafe_entry: {SNAPSHOT}/out leads out of the cache, and was not followed",)
    assert report.revisions[0].missing == ("out",) and not report.revisions[0].is_loadable
    assert after.used_bytes == before.used_bytes and report.size_bytes == before.repos[0].size_bytes
    assert after.problems == ("unsafe_entry: door leads out of the cache, and was not followed",)
    assert [each.name for each in list_files(str(repo.parent), folder=repo.name)] == [
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_no_file_out_of_the_cache_is_read(repo: Path, outside: Path, name: str) -> None:
    (repo / SNAPSHOT / name).unlink(missing_ok=True)
    (repo / SNAPSHOT / name).symlink_to(outside / "config.json")
    (revision,) = scan(repo).revisions
    assert revision.config.get("model_type") != "secret" and revision.missing == (name,)


def test_a_linked_folder_is_not_entered(repo: Path, outside: Path) -> None:
    before = scan_cache(str(repo.parent))
    for link in (repo / "blobs/out", repo / "out", repo.parent / "out", repo.parent / "models--org--linked"):
        link.symlink_to(outside, target_is_directory=True)
    (repo.parent / "models--org--alias").symlink_to(repo.name)
    after = scan_cache(str(repo.parent))
    assert (after.used_bytes, after.foreign) == (before.used_bytes, before.foreign)
    assert [each.revisions for each in after.repos] == [before.repos[0].revisions]
    assert after.repos[0].problems == (
        "unsafe_entry: blobs/out leads out of the cache, and was not followed",
        "unsafe_entry: out leads out of the cache, and was not followed",
    )
    assert sorted(after.problems) == [
        "models--org--alias is a link, and was not followed",
        "unsafe_entry: models--org--linked leads out of the cache, and was not followed",
        "unsafe_entry: out leads out of the cache, and was not followed",
    ]
    for folder in ("models--org--linked", "models--org--alias"):
        assert list_files(str(repo.parent), folder=folder) == ()


def test_links_in_a_circle_are_missing(repo: Path) -> None:
    (repo / SNAPSHOT / "a").symlink_to("b")
    (repo / SNAPSHOT / "b").symlink_to("a")
    assert scan(repo).revisions[0].missing == ("a", "b")


def test_a_link_with_too_few_or_too_many_steps_up_is_broken_though_the_name_is_right(repo: Path) -> None:
    blob = (repo / SNAPSHOT / "config.json").resolve().name
    for place, steps in (("x/wrong", 2), ("x/right", 3), ("wrong", 1), ("a/b/c/wrong", 2), ("a/b/c/right", 5)):
        link = repo / SNAPSHOT / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../" * steps + f"blobs/{blob}")
    (repo / SNAPSHOT / "a/b/c/odd").symlink_to(f"xx/yy/zz/../../blobs/{blob}")
    (revision,) = scan(repo).revisions
    assert revision.missing == ("a/b/c/odd", "a/b/c/wrong", "wrong", "x/wrong")
    assert revision.file_count == 4


def test_a_broken_link_is_missing_though_its_text_is_a_path_in_the_cache(repo: Path, cache: Path) -> None:
    (cache / "notes").mkdir()
    (cache / "notes" / "licence").write_bytes(b"12345")
    (repo / SNAPSHOT / "good").symlink_to("../../../notes/licence")
    later = repo / "snapshots" / ("b" * 40)
    later.mkdir()
    (later / "relative").symlink_to("notes/licence")
    (later / "absolute").symlink_to("/notes/licence")
    assert [each.missing for each in scan(repo).revisions] == [(), ("absolute", "relative")]


def test_a_blob_in_the_shared_store_is_no_orphan_though_it_is_named_by_its_absolute_path(
    repo: Path, cache: Path
) -> None:
    blob = (repo / SNAPSHOT / "config.json").resolve()
    blob.rename(cache / "stored")
    blob.symlink_to("../../stored")
    (repo / SNAPSHOT / "config.json").unlink()
    (repo / SNAPSHOT / "config.json").symlink_to(blob)
    report = scan(repo)
    assert (report.orphan_count, report.layout) == (0, "shared") and report.revisions[0].is_loadable


# Bytes that several hold


def test_what_lies_in_another_repo_or_beside_all_is_counted_where_it_lies(repo: Path, cache: Path) -> None:
    """A repo is as large as what it needs; the cache holds each byte once."""
    (cache / "notes").mkdir()
    (cache / "notes" / "licence").write_bytes(b"l" * 500)
    twin = make_cached_repo(cache, "org/twin", files={"own": b"12345"}, refs={})
    blob = (repo / SNAPSHOT / "model.safetensors").resolve()
    before = scan_cache(str(cache))
    (twin / SNAPSHOT / "model.safetensors").symlink_to(f"../../../models--org--m/blobs/{blob.name}")
    (twin / SNAPSHOT / "again").symlink_to("model.safetensors")
    (twin / SNAPSHOT / "licence").symlink_to(cache / "notes" / "licence")
    after = scan_cache(str(cache))
    assert after.used_bytes == before.used_bytes and after.physical_bytes == before.physical_bytes
    assert [each.size_bytes - old.size_bytes for each, old in zip(after.repos, before.repos, strict=True)] == [0, 1500]
    assert after.repos[1].revisions[0].size_bytes == 1505 and after.repos[1].revisions[0].file_count == 4


def test_hard_links_within_a_repo_across_repos_and_beside_them_count_once(repo: Path, cache: Path) -> None:
    before = scan_cache(str(cache))
    blob = (repo / SNAPSHOT / "model.safetensors").resolve()
    twin = make_cached_repo(cache, "org/twin", files={"own": b"12345"}, refs={})
    for link in (twin / "blobs/copy", repo / "blobs/copy", cache / "copy"):
        os.link(blob, link)
    after = scan_cache(str(cache))
    assert after.used_bytes == before.used_bytes + 5
    assert [each.size_bytes for each in after.repos] == [before.repos[0].size_bytes, 1005]
    assert [each.size_bytes for each in after.foreign] == [1000]


def test_a_file_with_holes_is_large_and_takes_little(repo: Path) -> None:
    before = scan(repo)
    with (repo / "blobs" / "sparse").open("wb") as file:
        file.truncate(10**9)
    after = scan(repo)
    assert after.size_bytes == before.size_bytes + 10**9
    assert before.physical_bytes <= after.physical_bytes < before.physical_bytes + 10**6


# Layouts


def copy_layout(repo: Path, *names: str) -> None:
    for name in names:
        link = repo / SNAPSHOT / name
        blob = link.resolve()
        link.unlink()
        blob.rename(link)


def test_the_layout_is_named(cache: Path) -> None:
    files = loadable_files()
    for name in ("links", "mixed", "copies", "shared", "empty"):
        make_cached_repo(cache, name, files={} if name == "empty" else files)
    copy_layout(cache / "models--mixed", "config.json")
    copy_layout(cache / "models--copies", *files)
    blob = (cache / "models--shared" / SNAPSHOT / "config.json").resolve()
    store = cache / "blobs" / "ab" / "ab12"
    store.parent.mkdir(parents=True)
    blob.rename(store)
    blob.symlink_to("../../blobs/ab/ab12")
    report = scan_cache(str(cache))
    assert {each.repo_id: each.layout for each in report.repos} == {
        "links": "links", "mixed": "mixed", "copies": "copies", "shared": "shared", "empty": "",
    }  # fmt: skip
    assert all(each.revisions[0].is_loadable for each in report.repos if each.revisions)
    assert [(each.name, each.kind) for each in report.foreign] == [("blobs", "folder")]
    (cache / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
    assert [(each.name, each.kind) for each in scan_cache(str(cache)).foreign] == [("blobs", "store")]


def test_the_files_of_a_repo_are_listed_with_their_digests(repo: Path, cache: Path) -> None:
    make_cached_repo(cache, "org/m", files={"a/deep.txt": b"12"}, refs={}, commit="b" * 40)
    copy_layout(repo, "config.json")
    orphan = repo / "blobs" / ("e" * 40)
    orphan.write_bytes(b"123")
    put_partial(repo, "abc.1234abcd.incomplete", age_seconds=0)
    (repo / SNAPSHOT / "broken").symlink_to("../../blobs/gone")
    weights = repo / SNAPSHOT / "model.safetensors"
    assert list_files(str(cache), folder=repo.name) == (
        FileReport(COMMIT, "config.json", (repo / SNAPSHOT / "config.json").stat().st_size, ""),
        FileReport(COMMIT, "model.safetensors", 1000, hashlib.sha256(weights.read_bytes()).hexdigest()),
        FileReport("b" * 40, "a/deep.txt", 2, hashlib.sha1(b"blob 2\x0012").hexdigest()),
        FileReport("", "", 3, orphan.name),
    )


def test_what_the_library_keeps_beside_the_snapshots_is_counted(repo: Path) -> None:
    """`.no_exist` remembers files that a repo lacks, `trees` the lists of files."""
    before = scan(repo)
    for name in (f".no_exist/{COMMIT}/a.json", f"trees/{COMMIT}.json"):
        (repo / name).parent.mkdir(parents=True)
        (repo / name).write_text("12345")
    after = scan(repo)
    assert after.size_bytes == before.size_bytes + 10
    assert (after.revisions, after.problems, after.file_count) == (before.revisions, (), before.file_count)


def test_the_youngest_file_says_when_a_repo_changed_last(repo: Path) -> None:
    age_tree(repo, seconds=5000)
    moment = time.time() - 1000
    os.utime(next((repo / "blobs").iterdir()), (moment, moment))
    assert scan(repo).modified_at == pytest.approx(moment, abs=0.001)


# Refs


def test_a_ref_to_a_revision_that_is_not_here_is_a_problem(repo: Path) -> None:
    (repo / "refs" / "v2").write_text("b" * 40)
    (repo / "refs" / "odd").write_bytes(b"\xff")
    (repo / "refs" / ".DS_Store").write_bytes(b"\xff")
    report = scan(repo)
    assert report.problems == ("refs/odd holds no commit", "refs/v2 names a revision that is not here")
    assert report.revisions[0].refs == ("main",)


# What is no repo


def test_files_of_an_old_transformers_cache_are_one_sum(cache: Path) -> None:
    for number in range(3):
        name = hashlib.sha256(str(number).encode()).hexdigest()
        for ending in (f".{name}", f".{name}.json", ".json"):
            cache.mkdir(exist_ok=True)
            (cache / (name + ending)).write_bytes(b"12345")
    (cache / ("e" * 63)).write_bytes(b"1")
    report = scan_cache(str(cache))
    assert [(each.name, each.kind, each.file_count, each.size_bytes) for each in report.foreign] == [
        ("e" * 63, "file", 1, 1),
        ("files of transformers before 4.22", "old_cache", 9, 45),
    ]
    assert report.used_bytes == report.foreign_bytes == 46


def test_of_very_many_foreign_files_the_largest_keep_their_names(cache: Path) -> None:
    cache.mkdir()
    for number in range(1000):
        (cache / f"file-{number:04}").write_bytes(b"x" * number)
    report = scan_cache(str(cache))
    assert report.used_bytes == sum(range(1000)) and len(report.foreign) == 201
    rest = next(each for each in report.foreign if each.name == "(many others)")
    assert (rest.kind, rest.file_count, rest.size_bytes) == ("file", 800, sum(range(800)))


def test_pipes_sockets_and_devices_are_neither_opened_nor_counted(repo: Path, cache: Path) -> None:
    before = scan_cache(str(cache))
    for place in ("pipe", "models--org--m/pipe", "models--org--m/blobs/pipe", f"models--org--m/{SNAPSHOT}/pipe"):
        os.mkfifo(cache / place)
    after = scan_cache(str(cache))
    assert after.used_bytes == before.used_bytes
    assert after.repos[0].problems == ("blobs/pipe is not a file",)
    assert after.repos[0].revisions[0].missing == ("pipe",)


def test_names_that_are_no_text_travel_as_ascii(repo: Path, cache: Path) -> None:
    (cache / "\udcff").write_bytes(b"1")
    (repo / "\udcfe").mkdir()
    (repo / SNAPSHOT / "\udcfd").write_bytes(b"12")
    (repo / SNAPSHOT / "new\nline").write_bytes(b"123")
    put_partial(repo, "\udcfc.incomplete", age_seconds=600)
    age_tree(repo)
    report = scan_cache(str(cache))
    json.dumps(report_to_json(report), ensure_ascii=False).encode()
    assert report.foreign[0].name == "\\udcff" and report.repos[0].partials[0].name == "blobs/\\udcfc.incomplete"
    assert [each.name for each in list_files(str(cache), folder=repo.name)][2:] == ["new\nline", "\\udcfd"]
    assert not report.repos[0].memory.is_settled  # no database keeps such names


def test_a_tree_of_any_depth_is_read_as_far_as_paths_reach(repo: Path, cache: Path) -> None:
    for top in (repo / SNAPSHOT, repo, cache):
        folder = os.open(top, os.O_RDONLY)
        for _ in range(60):
            name = "d" * 100
            os.mkdir(name, dir_fd=folder)
            deeper = os.open(name, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = deeper
        os.close(os.open("file", os.O_CREAT, dir_fd=folder))
        os.close(folder)
    report = scan_cache(str(cache))
    assert any("cannot be read: File name too long" in each for each in report.problems)
    assert any("cannot be read: File name too long" in each for each in report.repos[0].problems)
    assert not report.repos[0].revisions[0].is_loadable


def test_thousands_of_problems_are_a_hundred_and_their_number(repo: Path) -> None:
    for number in range(1000):
        (repo / SNAPSHOT / f"{number:04}").symlink_to("/etc")
    report = scan(repo)
    assert len(report.problems) == 101 and report.problems[-1] == "(900 more problems)"
    assert len(report.revisions[0].missing) == 1000
