"""A re-scan reads what changed, takes the rest as remembered, and says what a full scan says."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachemgr.report import CacheReport, RepoReport
from cachemgr.scan import scan_cache
from tests.factories import age_tree, loadable_files, make_cached_repo

COMMIT = "a" * 40
SNAPSHOT = f"snapshots/{COMMIT}"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three repos that nobody touched for an hour: m and n share a blob by a hard link, n has one in a shared store."""
    cache = tmp_path / "hub"
    for name in ("l", "m", "n"):
        repo = make_cached_repo(cache, f"org/{name}", files=loadable_files() | {"sub/folder/file": name.encode()})
    (cache / "models--org--m" / "blobs" / "abc.12345678.incomplete").write_bytes(b"half")
    blob = (cache / "models--org--m" / SNAPSHOT / "model.safetensors").resolve()
    os.link(blob, repo / "blobs" / "twin")
    (cache / "blobs" / "ab").mkdir(parents=True)
    (cache / "blobs" / "ab" / "ab12").write_bytes(b"x" * 300)
    (repo / "blobs" / "stored").symlink_to("../../blobs/ab/ab12")
    (repo / SNAPSHOT / "stored").symlink_to("../../blobs/stored")
    age_tree(cache)
    return cache


def remembered(report: CacheReport) -> dict[str, RepoReport]:
    return {repo.folder: repo for repo in report.repos}


def scan_both(cache: Path, known: dict[str, RepoReport]) -> tuple[CacheReport, CacheReport]:
    """What the re-scan and a full scan say; what they remember may differ, as for a hard link that went elsewhere."""
    again = scan_cache(str(cache), known=known)
    full = replace(scan_cache(str(cache)), reread_count=again.reread_count)
    return again, replace(full, repos=tuple(replace(repo, memory=again_of(again, repo).memory) for repo in full.repos))


def again_of(report: CacheReport, repo: RepoReport) -> RepoReport:
    return remembered(report).get(repo.folder, repo)


def test_a_cache_in_which_nothing_changed_is_taken_as_remembered(cache: Path) -> None:
    first = scan_cache(str(cache))
    assert first.reread_count == 3 and all(repo.memory.is_settled for repo in first.repos)
    known = remembered(first)
    again, full = scan_both(cache, known)
    assert again.reread_count == 0 and again == full
    assert all(repo is known[repo.folder] for repo in again.repos)


def rewrite_ref(repo: Path) -> None:
    (repo / "refs" / "main").write_text("b" * 40)


def grow_partial(repo: Path) -> None:
    with (repo / "blobs" / "abc.12345678.incomplete").open("ab") as file:
        file.write(b"more")


def add_with_old_times(repo: Path) -> None:
    """As `rsync -a` does: the folder gets back the time that it had."""
    before = (repo / "blobs").stat()
    (repo / "blobs" / "new").write_bytes(b"12345")
    os.utime(repo / "blobs", ns=(before.st_atime_ns, before.st_mtime_ns))


def swap_folder(repo: Path) -> None:
    """Another folder with the same time under the same name."""
    before = (repo / SNAPSHOT).stat()
    shutil.rmtree(repo / SNAPSHOT)
    (repo / SNAPSHOT).mkdir()
    os.utime(repo / SNAPSHOT, ns=(before.st_atime_ns, before.st_mtime_ns))
    age_tree(repo / "snapshots")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a blob came": lambda repo: (repo / "blobs" / "new").write_bytes(b"12345"),
    "a blob went": lambda repo: (repo / SNAPSHOT / "config.json").resolve().unlink(),
    "a name came": lambda repo: (repo / SNAPSHOT / "sub" / "more").write_bytes(b"12345"),
    "a deep name went": lambda repo: (repo / SNAPSHOT / "sub" / "folder" / "file").unlink(),
    "a revision came": lambda repo: (repo / "snapshots" / ("c" * 40)).mkdir(),
    "a revision went": lambda repo: shutil.rmtree(repo / SNAPSHOT),
    "a branch moved": rewrite_ref,
    "a branch came": lambda repo: (repo / "refs" / "pr").write_text(COMMIT),
    "a download went on": grow_partial,
    "a download ended": lambda repo: (repo / "blobs" / "abc.12345678.incomplete").rename(repo / "blobs" / "abc"),
    "a file came with old times": add_with_old_times,
    "a folder was swapped": swap_folder,
    "a folder came beside": lambda repo: (repo / "trees").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_in_a_repo_is_seen_and_that_repo_alone_is_read(cache: Path, change: str) -> None:
    known = remembered(scan_cache(str(cache)))
    CHANGES[change](cache / "models--org--m")
    again, full = scan_both(cache, known)
    assert again == full and again.reread_count == 1
    assert remembered(again)["models--org--m"] != known["models--org--m"]


def test_a_folder_of_another_number_is_another_folder(cache: Path) -> None:
    """As on a disk that was put in place of its own copy."""
    known = remembered(scan_cache(str(cache)))
    memory = known["models--org--m"].memory
    moved = tuple(replace(mark, inode=mark.inode + 1) for mark in memory.folders)
    known["models--org--m"] = replace(known["models--org--m"], memory=replace(memory, folders=moved))
    assert scan_cache(str(cache), known=known).reread_count == 1


def test_repos_come_and_go(cache: Path) -> None:
    known = remembered(scan_cache(str(cache)))
    (cache / "models--org--l").rename(cache / "models--org--new")
    shutil.rmtree(cache / "models--org--m")
    again, full = scan_both(cache, known)
    assert again == full and again.reread_count == 1
    assert [repo.repo_id for repo in again.repos] == ["org/n", "org/new"]


def test_what_lies_beside_is_counted_each_time(cache: Path) -> None:
    known = remembered(scan_cache(str(cache)))
    (cache / "blobs" / "ab" / "more").write_bytes(b"12345")
    (cache / "foreign").write_bytes(b"123")
    again, full = scan_both(cache, known)
    assert again == full and again.reread_count == 0


def test_a_blob_that_left_the_shared_store_is_missed_and_found_again(cache: Path) -> None:
    known = remembered(scan_cache(str(cache)))
    store = cache / "blobs" / "ab" / "ab12"
    store.rename(cache / "blobs" / "kept")
    again, full = scan_both(cache, known)
    assert again == full and remembered(again)["models--org--n"].revisions[0].missing == ("stored",)
    (cache / "blobs" / "kept").rename(store)
    last, full = scan_both(cache, remembered(again))
    assert last == full and remembered(last)["models--org--n"].revisions[0].is_loadable


def test_bytes_that_a_remembered_and_a_read_repo_share_count_once(cache: Path) -> None:
    first = scan_cache(str(cache))
    (cache / "models--org--m" / "blobs" / "new").write_bytes(b"12345")
    again = scan_cache(str(cache), known=remembered(first))
    assert again.reread_count == 1 and again.used_bytes == first.used_bytes + 5


def test_a_dead_download_that_goes_on_is_live_though_no_byte_came_yet(cache: Path) -> None:
    lock = cache / ".locks" / "models--org--m" / "abc.lock"
    lock.parent.mkdir(parents=True)
    first = scan_cache(str(cache))
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        again, full = scan_both(cache, remembered(first))
        assert again == full and remembered(again)["models--org--m"].partials[0].is_live
    last = scan_cache(str(cache), known=remembered(again))
    assert not remembered(last)["models--org--m"].partials[0].is_live


def test_a_hard_link_to_a_blob_of_a_remembered_repo_does_not_make_its_bytes_count_twice(cache: Path) -> None:
    """As a program leaves it that finds equal files and links them: only one of the two folders changes."""
    first = scan_cache(str(cache))
    blob = (cache / "models--org--l" / SNAPSHOT / "model.safetensors").resolve()
    os.link(blob, cache / "models--org--m" / "blobs" / "new")
    again, full = scan_both(cache, remembered(first))
    assert again == full and again.used_bytes == first.used_bytes
    (cache / "models--org--m" / "blobs" / "more").write_bytes(b"12345")
    last, full = scan_both(cache, remembered(again))
    assert last == full and last.reread_count == 1
    (cache / "beside").mkdir()
    os.link(blob, cache / "beside" / "new")
    last, full = scan_both(cache, remembered(last))
    assert last == full and last.used_bytes == first.used_bytes + 5


@pytest.mark.parametrize("place", ["blobs/twice", "trees/deep/twice"])
def test_a_hard_link_that_is_written_by_its_other_name_is_seen(cache: Path, place: str) -> None:
    other, linked = cache / "beside", cache / "models--org--l" / place
    other.write_bytes(b"short")
    linked.parent.mkdir(parents=True, exist_ok=True)
    os.link(other, linked)
    age_tree(cache)
    first = scan_cache(str(cache))
    assert scan_cache(str(cache), known=remembered(first)).reread_count == 0
    other.write_bytes(b"a longer one")
    again, full = scan_both(cache, remembered(first))
    assert again == full and again.used_bytes == first.used_bytes + 7


# When times tell nothing


@pytest.mark.parametrize("age_seconds", [0, 2, -3600])
def test_a_folder_that_changed_a_moment_ago_or_in_the_future_is_read_again(cache: Path, age_seconds: float) -> None:
    """On a coarse clock the next change might get the same time."""
    moment = time.time() - age_seconds
    os.utime(cache / "models--org--m" / "refs", (moment, moment))
    for _ in range(2):
        report = scan_cache(str(cache), known=remembered(scan_cache(str(cache))))
        assert report.reread_count == 1
    os.utime(cache / "models--org--m" / "refs", (moment - 8000, moment - 8000))
    assert scan_cache(str(cache), known=remembered(scan_cache(str(cache)))).reread_count == 0


def test_a_copy_that_grows_in_place_is_read_again_until_it_is_left_alone(cache: Path) -> None:
    """Where a drive takes no links, the library copies into the snapshot, and the folder's time stands still."""
    path = cache / "models--org--m" / SNAPSHOT / "big.bin"
    path.write_bytes(b"1")
    os.utime(path.parent, (1000, 1000))
    known = remembered(scan_cache(str(cache)))
    with path.open("ab") as file:
        file.write(b"2" * 5000)
    again, full = scan_both(cache, known)
    assert again == full and again.reread_count == 1


def test_where_times_are_not_to_be_trusted_all_is_read_and_the_report_says_why(cache: Path) -> None:
    known = remembered(scan_cache(str(cache)))
    report = scan_cache(str(cache), known=known, distrust="It is a network drive.")
    assert (report.reread_count, report.distrust) == (3, "It is a network drive.")


# Whatever happens

REPOS = st.sampled_from(["models--org--a", "models--org--b", "datasets--c"])
COMMITS = st.sampled_from([digit * 40 for digit in "12"])
NAMES = st.sampled_from(["config.json", "x.safetensors", "deep/er/y.bin"])
BLOBS = st.sampled_from(["e" * 40, "f" * 64])
CONTENTS = st.binary(max_size=9)
IN_PLACE = ("refs/", "blobs/e.1.incomplete", "ab/stored")  # the rest is written once, or anew under its old name
STEPS = st.one_of(
    st.tuples(
        st.just("write"), REPOS, st.one_of(BLOBS.map("blobs/{}".format), COMMITS.map("extra/{}".format)), CONTENTS
    ),
    st.tuples(st.just("write"), REPOS, st.just("blobs/e.1.incomplete"), CONTENTS),
    st.tuples(st.just("write"), REPOS, st.sampled_from(["refs/main", "refs/pr/1"]), COMMITS.map(str.encode)),
    st.tuples(st.just("write"), REPOS, st.builds("snapshots/{}/{}".format, COMMITS, NAMES), CONTENTS),
    st.tuples(st.just("write"), st.just("blobs"), st.just("ab/stored"), CONTENTS),
    st.tuples(st.just("link"), REPOS, st.builds("snapshots/{}/{}".format, COMMITS, NAMES), BLOBS),
    st.tuples(st.just("store"), REPOS, BLOBS.map("blobs/{}".format), st.just(None)),
    st.tuples(st.just("hard"), REPOS, BLOBS.map("blobs/{}".format), REPOS),
    st.tuples(st.just("remove"), REPOS, st.sampled_from(["blobs", "refs", "snapshots", "refs/main"]), st.just(None)),
    st.tuples(st.just("remove"), REPOS, BLOBS.map("blobs/{}".format), st.just(None)),
)


def take_step(cache: Path, what: str, folder: str, name: str, value: object) -> None:
    path = cache / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "write" and path.is_file() and name.startswith(IN_PLACE):
        path.write_bytes(value)
        return
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if what == "write":
        path.write_bytes(value)
    elif what == "link":
        path.symlink_to("../" * (name.count("/")) + f"blobs/{value}")
    elif what == "store":
        path.symlink_to("../../blobs/ab/stored")
    elif what == "hard" and (cache / value / name).is_file():
        os.link((cache / value / name).resolve(), path)


@settings(max_examples=80, deadline=None)
@given(
    before=st.lists(STEPS, min_size=8, max_size=40), after=st.lists(st.lists(STEPS, max_size=3), min_size=1, max_size=3)
)
def test_after_any_changes_a_re_scan_says_what_a_full_scan_says(before: list, after: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for step in before:
            take_step(cache, *step)
        age_tree(cache)
        report = scan_cache(folder)
        for steps in after:
            for step in steps:
                take_step(cache, *step)
            touched = {step[1] for step in steps}
            untouched = {repo.folder for repo in report.repos if repo.memory.is_settled} - touched
            again, full = scan_both(cache, remembered(report))
            assert again == full
            has_hard_links = any(step[0] == "hard" for step in [*before, *chain.from_iterable(after)])
            if "blobs" not in touched and not has_hard_links:
                assert again.reread_count <= len(again.repos) - len(untouched)
            report = again
