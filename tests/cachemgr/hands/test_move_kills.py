"""Moves that are killed, or started twice: another attempt goes on, and nothing is lost or done again."""

import fcntl
import os
import signal

import pytest

from tests.cachemgr.hands.trips import (
    FOLDER,
    LONGER_BYTES,
    Trip,
    child,
    everything,
    litter,
    make_longer,
    refused,
    strained,
    unharmed,
)


def test_a_second_process_leaves_the_job_to_the_first(trip: Trip) -> None:
    trip.do("stage")
    held = os.open(trip.staging, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        for step in ("stage", "publish", "leave", "abandon"):
            trouble = refused(trip, step)
            assert (trouble.code, trouble.is_permanent) == ("duplicate", False)
    finally:
        os.close(held)
    trip.go()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_goes_on_after_its_process_was_killed(trip: Trip, end: signal.Signals) -> None:
    make_longer(trip.source / FOLDER)
    before = everything(trip.source / FOLDER)
    with unharmed(trip):
        kill_in_the_middle(trip, end)
        finished = {path: path.stat().st_ino for path in (trip.staging / FOLDER).rglob("*") if path.is_file()}
        assert 0 < len(finished) < len([each for each in before.values() if isinstance(each, bytes)])
        trip.do("stage")
        assert {path: path.stat().st_ino for path in finished} == finished
    trip.do("publish")
    assert everything(trip.moved) == before
    trip.do("leave")


def kill_in_the_middle(trip: Trip, end: signal.Signals) -> None:
    with child("move", trip.order("stage", rate_limit=4 * LONGER_BYTES)) as process:
        while len(list((trip.staging / FOLDER).rglob("extra-*"))) < 2:
            assert process.poll() is None
        process.send_signal(end)
        assert process.wait() != 0


POINTS = {
    "stage": "write:3 write:9 fsync:1 fsync:8 renameat:1 renameat:5 mkdirat:3 mkdirat:9 symlinkat:2 unlinkat:4",
    "publish": "fsync:1 fsync:6 renameat:1",
    "leave": "unlinkat:1 unlinkat:5 unlinkat:25 fsync:1",
    "abandon": "unlinkat:1 unlinkat:5 renameat:1",
}
EARLIER = {"stage": [], "publish": ["stage"], "leave": ["stage", "publish"], "abandon": ["stage", "publish"]}


@pytest.mark.parametrize(("step", "point"), [(step, point) for step in POINTS for point in POINTS[step].split()])
def test_a_kill_at_any_call_costs_nothing(trip: Trip, step: str, point: str) -> None:
    before = everything(trip.source / FOLDER)
    for each in EARLIER[step]:
        trip.do(each)
    call, when = point.split(":")
    lines = strained(trip, step, f"{call}:signal=SIGKILL:when={when}")
    assert not any("done" in line for line in lines)
    assert everything(trip.moved if step == "leave" else trip.source / FOLDER) == before
    if step == "abandon":
        trip.do("abandon")
        assert litter(trip.target) == [] and not trip.moved.exists()
    assert (trip.do("leave") if step == "leave" else trip.go())["kept"] == []
    assert everything(trip.moved) == before
    assert litter(trip.target) == [] and not (trip.source / FOLDER).exists()
