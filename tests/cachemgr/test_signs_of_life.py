"""Steps that ask for many names say so while they read: who waits for them takes silence for a drive that hangs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cachemgr import errands
from cachemgr.errands import Errand, Line, finish
from cachemgr.errors import ErrandFailed
from cachemgr.hands import clean, find, move, telling, trash, verify
from cachemgr.hands.telling import pulse
from tests.cachemgr.conftest import HungDrive
from tests.cachemgr.hands.trips import Trip, make_caches
from tests.cachemgr.trees import share_blob
from tests.factories import age_tree, loadable_files, make_cached_repo
from tests.registry.downloading import wait_for

FOLDER = "models--org--m"
COUNT = 40


@pytest.fixture
def speak(tmp_path, monkeypatch) -> Callable[..., int]:
    """`speak(task, step=...)`: how often it would speak, were each file and repo as slow as a word's pause. Bytes that
    move are no words."""
    path = tmp_path / "cache"
    path.mkdir()
    monkeypatch.setattr(telling, "_EVERY_SECONDS", -1.0)

    def run(task, **order: object) -> int:
        said: list[str] = []
        with pulse.heard_by(lambda **line: said.append("alive")):
            task.run({"root": {"path": str(path), "uuid": ""}} | order, say=lambda **line: None)
        return len(said)

    run.path = path
    return run


def make_shared_files(path: Path) -> None:
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    for number in range(COUNT):
        share_blob(path, repo, name=f"{number}.safetensors", stored=f"{number:02x}" + "5" * 62, content=b"s")


def make_many_repos(path: Path) -> None:
    for number in range(COUNT):
        repo = make_cached_repo(path, f"org/n{number}", files={"config.json": b"{}"})
        (repo / "blobs" / ("0" * 64)).write_bytes(b"x")
    age_tree(path)


def make_many_files(path: Path, *, count: int = COUNT) -> None:
    make_cached_repo(path, "org/m", files={f"{number}.txt": b"%d" % number for number in range(count)})


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


def test_a_search_speaks_at_each_repo_and_each_digest(speak) -> None:
    make_many_repos(speak.path)
    assert speak(find, sizes={"0" * 64: 1}) >= COUNT
    assert speak(find, sizes={f"{number:064}": 1 for number in range(COUNT)}) >= COUNT * COUNT


def test_a_verification_speaks_at_each_name_before_it_reads_them(speak) -> None:
    make_many_files(speak.path)
    assert speak(verify, folder=FOLDER, budget_bytes=1) >= 2 * COUNT  # each blob, each link


@pytest.mark.parametrize("steps", [["plan"], ["stage"], ["stage", "publish"], ["stage", "publish", "leave"]])
def test_each_step_of_a_move_speaks_at_each_name(speak, tmp_path, steps) -> None:
    trip = make_caches(tmp_path)
    make_many_files(trip.source)
    *earlier, last = steps
    for step in earlier:
        speak(move, **trip.order(step))
    assert speak(move, **trip.order(last)) >= 2 * COUNT


def test_a_copy_that_is_thrown_away_is_heard_of(speak, tmp_path) -> None:
    trip = make_caches(tmp_path)
    make_many_files(trip.source)
    speak(move, **trip.order("stage"))
    assert speak(move, **trip.order("abandon")) >= 2 * COUNT


# A drive that is slow, and one that hangs

QUIET_SECONDS = 3.0


@pytest.fixture
def nas(hung_drive: HungDrive, monkeypatch) -> Iterator[HungDrive]:
    """A repo of so many names that reading them takes longer than anybody may be silent."""
    monkeypatch.setattr(errands, "_STOP_SECONDS", 0.2)
    make_many_files(hung_drive.path, count=40)
    yield hung_drive
    hung_drive.go_on()
    wait_for(lambda: not hanging())


def hanging() -> bool:
    errands._collect_hanging()
    return bool(errands._hanging)


def read(step: str, path: Path, target: Path) -> Errand:
    root, trip = {"path": str(path), "uuid": ""}, Trip(path, target)
    orders: dict[str, dict[str, Any]] = {
        "plan": {"task": "move", **trip.order("plan")},
        "verify": {"task": "verify", "root": root, "folder": FOLDER, "budget_bytes": 1},
        "weigh": {"task": "trash", "step": "weigh", "root": root, "holders": [FOLDER]},
    }
    return Errand("cachemgr.hands", orders[step])


@pytest.mark.root
@pytest.mark.parametrize(("step", "seconds_a_name"), [("plan", 0.03), ("verify", 0.03), ("weigh", 0.045)])
def test_a_slow_drive_may_take_longer_than_the_limit_of_silence_and_never_stalls(
    nas, tmp_path, step, seconds_a_name
) -> None:
    heard: list[Line] = []
    errand, began = read(step, nas.path, tmp_path), time.monotonic()
    nas.answer_each_name_after(seconds=seconds_a_name)
    finish(errand, on_line=heard.append, quiet_seconds=QUIET_SECONDS)
    seconds = time.monotonic() - began
    assert seconds > QUIET_SECONDS
    assert 2 <= len([line for line in heard if "alive" in line]) <= seconds + 1


@pytest.mark.root
def test_a_slow_drive_that_hangs_in_the_middle_stalls_all_the_same(nas, tmp_path) -> None:
    errand = read("plan", nas.path, tmp_path)
    nas.answer_each_name_after(seconds=0.04)
    heard: list[float] = []

    def hang(line: Line) -> None:
        if line:
            nas.hang()
            heard.append(time.monotonic())

    with pytest.raises(ErrandFailed, match=f"{nas.path} or .* did not answer for 3 s") as failed:
        finish(errand, on_line=hang, quiet_seconds=QUIET_SECONDS)
    assert failed.value.code == "stalled" and heard and time.monotonic() - heard[-1] < QUIET_SECONDS + 3
