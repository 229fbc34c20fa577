"""Errands that are run to their end, by real child processes."""

import time
from pathlib import Path

import psutil
import pytest

from cachemgr import errands
from cachemgr.errands import Errand, finish
from cachemgr.errors import CacheUnavailable, ErrandFailed
from tests.cachemgr.conftest import HungDrive
from tests.processes import command_of, is_over
from tests.registry.downloading import wait_for


def errand(*, lines: int, ends: bool) -> Errand:
    places = {"source": {"path": "/fast", "uuid": "a"}, "target": {"path": "/big", "uuid": "b"}}
    return Errand("tests.cachemgr.errand_of_few_words", {**places, "lines": lines, "ends": ends})


_of_others: set[int] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """Children that tests before these left to their own end are not ours."""
    _of_others.clear()
    _of_others.update(child.pid for child in psutil.Process().children())


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.pid not in _of_others]


def hanging() -> list[psutil.Process]:
    return [child for child in children() if not is_over(child) and "cachemgr.hands" in command_of(child)]


def test_its_lines_are_heard_and_its_end_is_the_answer() -> None:
    heard: list[dict] = []
    assert finish(errand(lines=2, ends=True), on_line=heard.append) == {"said": 2}
    assert [line["number"] for line in heard if line] == [0, 1] and not children()


def test_one_that_says_something_now_and_then_may_take_longer_than_the_limit_of_silence() -> None:
    assert finish(errand(lines=6, ends=True), quiet_seconds=1.2) == {"said": 6}


def test_one_that_is_silent_for_too_long_is_ended_and_its_drives_are_named() -> None:
    began = time.monotonic()
    with pytest.raises(ErrandFailed, match=r"/fast or /big did not answer for 0\.5 s") as failed:
        finish(errand(lines=1, ends=False), quiet_seconds=0.5)
    assert (failed.value.code, failed.value.is_permanent) == ("stalled", False)
    assert time.monotonic() - began < 5 and not children()


def test_one_that_dies_is_told_of_without_a_promise_that_only_a_job_can_give() -> None:
    with pytest.raises(ErrandFailed, match=r"ended without a word \(exit status -9\)\.$") as failed:
        finish(errand(lines=10, ends=True), on_line=lambda _: children()[0].kill())
    assert (failed.value.code, failed.value.is_permanent) == ("errand_died", False)


def test_what_a_listener_raises_ends_it() -> None:
    def refuse(line: dict) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        finish(errand(lines=10, ends=False), on_line=refuse)
    assert not children()


# Drives that hang


def look(*paths: Path) -> Errand:
    """Lists a trash; what it is told of other places is of no concern to it."""
    names = ("root", "target", "source")
    places = {name: {"path": str(path), "uuid": ""} for name, path in zip(names, paths, strict=False)}
    return Errand("cachemgr.hands", {"task": "trash", "step": "look", **places})


def finish_soon(errand: Errand) -> dict:
    return finish(errand, quiet_seconds=0.5)


@pytest.mark.root
def test_a_drive_that_hangs_costs_one_process_however_often_it_is_worked_on(
    hung_drive: HungDrive, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(errands, "_STOP_SECONDS", 0.2)
    assert finish_soon(look(hung_drive.path))["entries"] == []
    hung_drive.hang()
    with pytest.raises(ErrandFailed, match="did not answer"):
        finish_soon(look(hung_drive.path))
    for again in (look(hung_drive.path), look(hung_drive.path, tmp_path)):
        with pytest.raises(CacheUnavailable, match=f"{hung_drive.path} does not answer"):
            finish_soon(again)
    (stuck,) = hanging()
    assert finish_soon(look(tmp_path))["entries"] == []
    hung_drive.go_on()
    wait_for(lambda: is_over(stuck))
    assert finish_soon(look(hung_drive.path))["entries"] == []


@pytest.mark.root
def test_of_two_drives_of_which_one_hangs_each_can_still_be_worked_on_alone(
    hung_drive: HungDrive, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(errands, "_STOP_SECONDS", 0.2)
    hung_drive.hang()
    with pytest.raises(ErrandFailed, match="did not answer"):
        finish_soon(look(hung_drive.path, tmp_path))
    assert finish_soon(look(tmp_path))["entries"] == []
    with pytest.raises(CacheUnavailable):
        finish_soon(look(tmp_path, hung_drive.path))
    (stuck,) = hanging()
    hung_drive.go_on()
    wait_for(lambda: is_over(stuck))
    assert finish_soon(look(tmp_path, hung_drive.path))["entries"] == []
