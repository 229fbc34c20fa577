"""Reports travel as JSON: from the child to its parent, and through the database to the next scan."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachemgr import report as reports
from cachemgr.report import CacheReport, Memory, RepoReport
from cachemgr.report_json import (
    known_from_json,
    known_to_json,
    memory_from_json,
    memory_to_json,
    repo_from_json,
    repo_to_json,
    report_from_json,
    report_to_json,
)
from cachemgr.scan import scan_cache
from tests.factories import age_tree, loadable_files, make_cached_repo

TEXTS = st.text(max_size=10)
SIZES = st.integers(min_value=0, max_value=2**63 - 1)
TIMES = st.floats(min_value=0, max_value=2e9)


def some(strategy):
    return st.lists(strategy, max_size=2).map(tuple)


def any_of(report: type, **fields):
    return st.builds(report, **fields)


SHARED = ("device", "inode", "size_bytes", "physical_bytes", "name_count", "link_count")
MEMORIES = any_of(
    Memory,
    folders=some(any_of(reports.FolderMark, path=TEXTS, inode=SIZES, modified_ns=SIZES, changed_ns=SIZES)),
    files=some(any_of(reports.FileMark, path=TEXTS, size_bytes=SIZES, modified_ns=SIZES)),
    shared=some(any_of(reports.SharedInode, **dict.fromkeys(SHARED, SIZES))),
    borrowed_bytes=SIZES,
    borrowed_physical_bytes=SIZES,
    is_settled=st.booleans(),
)
REVISIONS = any_of(
    reports.RevisionReport,
    commit=TEXTS,
    refs=some(TEXTS),
    file_count=SIZES,
    size_bytes=SIZES,
    format=TEXTS,
    missing=some(TEXTS),
    config=st.dictionaries(TEXTS, TEXTS | SIZES | st.lists(TEXTS, max_size=2), max_size=2),
)
REPOS = any_of(
    RepoReport,
    repo_type=TEXTS,
    repo_id=TEXTS,
    folder=TEXTS,
    size_bytes=SIZES,
    physical_bytes=SIZES,
    file_count=SIZES,
    partials=some(any_of(reports.Partial, name=TEXTS, size_bytes=SIZES, is_live=st.booleans(), modified_at=TIMES)),
    orphan_count=SIZES,
    orphan_bytes=SIZES,
    layout=TEXTS,
    modified_at=TIMES,
    revisions=some(REVISIONS),
    problems=some(TEXTS),
    memory=MEMORIES,
)
FOREIGN = any_of(
    reports.ForeignReport, name=TEXTS, kind=TEXTS, file_count=SIZES, size_bytes=SIZES, physical_bytes=SIZES
)
CACHES = any_of(
    CacheReport,
    used_bytes=SIZES,
    physical_bytes=SIZES,
    repos=st.lists(REPOS, max_size=2, unique_by=lambda repo: repo.folder).map(tuple),
    foreign=some(FOREIGN),
    problems=some(TEXTS),
    reread_count=SIZES,
    distrust=TEXTS,
)


def sent(data):
    return json.loads(json.dumps(data, allow_nan=False))


@given(CACHES)
def test_a_report_comes_back_from_json_as_it_was(report: CacheReport) -> None:
    assert report_from_json(sent(report_to_json(report))) == report


@given(CACHES)
def test_what_is_known_already_is_named_only_and_comes_back_whole(report: CacheReport) -> None:
    known = {repo.folder: repo for repo in report.repos[:1]}
    data = sent(report_to_json(report, known=known))
    assert data["repos"][:1] == list(known)
    assert report_from_json(data, known=known) == report


@given(REPOS)
def test_a_repo_comes_back_from_its_row(repo: RepoReport) -> None:
    assert repo_from_json(sent(repo_to_json(repo))) == repo
    assert memory_from_json(sent(memory_to_json(repo.memory))) == repo.memory


@pytest.mark.parametrize(
    "memory",
    [
        {},
        {"is_settled": True, "folders": [["", 1, 2, 3]]},
        memory_to_json(Memory()) | {"more": 1},
        memory_to_json(Memory(is_settled=True)) | {"folders": [["", 1, 2]]},
    ],
)
def test_the_memory_of_another_version_is_none(memory: dict) -> None:
    assert memory_from_json(memory) == Memory()


def test_an_outline_of_what_is_known_serves_a_scan_as_well_and_is_a_fraction_of_the_report(tmp_path: Path) -> None:
    """The child of a re-scan gets outlines, and answers names for what did not change."""
    for number in range(3):
        make_cached_repo(tmp_path, f"org/m{number}", files=loadable_files())
    (tmp_path / "models--org--m0/blobs/e.1.incomplete").write_bytes(b"half")
    os.link(next((tmp_path / "models--org--m0/blobs").iterdir()), tmp_path / "models--org--m1/blobs/linked")
    age_tree(tmp_path)
    first = scan_cache(str(tmp_path))
    known = {repo.folder: repo for repo in first.repos}
    outlines = known_from_json(sent(known_to_json(known)))
    again = scan_cache(str(tmp_path), known=outlines)
    answer = report_to_json(again, known=outlines)
    assert answer["repos"] == list(known)
    assert report_from_json(sent(answer), known=known) == replace(first, reread_count=0)
    assert time.time() - first.repos[0].partials[0].modified_at > 120
