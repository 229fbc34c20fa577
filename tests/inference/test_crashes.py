"""Engines that fail again and again, and what the end of one means. Pure."""

import signal

import pytest

from inference.crashes import MOST_CRASHES, WINDOW_SECONDS, CrashBook
from inference.endings import LOAD_FAILED, OUT_OF_MEMORY, Ending
from inference.errors import EngineDied, InsufficientMemory, ModelCrashed, ModelNotLoadable
from inference.watchdog import Progress


def crash(book: CrashBook, *, now: float, what: object = "files") -> str:
    return book.note("m", what=what, message="It broke.", now=now)


def test_the_first_crash_costs_a_second_and_the_next_one_five() -> None:
    book = CrashBook()
    assert book.pause_seconds("m", now=0) == 0
    crash(book, now=10)
    assert book.pause_seconds("m", now=10) == 1
    assert book.pause_seconds("m", now=10.4) == pytest.approx(0.6)
    crash(book, now=20)
    assert book.pause_seconds("m", now=21) == 4
    assert book.pause_seconds("m", now=30) == book.pause_seconds("other", now=20) == 0


def test_three_crashes_in_five_minutes_are_enough_and_the_refusal_says_how_it_comes_back() -> None:
    book = CrashBook()
    assert [crash(book, now=time) for time in (0, WINDOW_SECONDS - 1)] == ["", ""]
    book.check("m", what="files")
    refusal = crash(book, now=WINDOW_SECONDS - 0.5)
    assert "It broke." in refusal and "POST /api/models/m/load" in refusal and "change its settings" in refusal
    with pytest.raises(ModelCrashed) as refused:
        book.check("m", what="files")
    assert refused.value.message == refusal == book.refusal_of("m")
    book.check("other", what="files")


def test_crashes_of_long_ago_do_not_count() -> None:
    book = CrashBook()
    for time in range(MOST_CRASHES):
        assert crash(book, now=time * WINDOW_SECONDS) == ""


def test_other_files_or_settings_are_a_new_chance_and_so_is_a_load_by_hand() -> None:
    book = CrashBook()
    for _ in range(MOST_CRASHES):
        crash(book, now=0)
    book.check("m", what="others")
    assert crash(book, now=1, what="others") == ""
    book.check("m", what="files")
    for _ in range(MOST_CRASHES):
        crash(book, now=2)
    book.forgive("m")
    book.check("m", what="files")
    assert book.pause_seconds("m", now=2) == 0


def test_a_load_that_succeeds_ends_the_refusal_and_forgets_no_crash() -> None:
    book = CrashBook()
    for _ in range(MOST_CRASHES):
        crash(book, now=0)
    book.note_load("m")  # with other settings
    assert book.refusal_of("m") == ""
    book.check("m", what="files")
    assert crash(book, now=1) != ""
    book.note_load("never crashed")


def test_loads_between_crashes_save_nobody() -> None:
    book = CrashBook()
    for time in range(MOST_CRASHES - 1):
        assert crash(book, now=time) == ""
        book.note_load("m")
    assert "not loaded by itself any more" in crash(book, now=MOST_CRASHES)


@pytest.mark.parametrize(
    ("ending", "kind", "sentence"),
    [
        (Ending("m", LOAD_FAILED, "It lacks tensors."), ModelNotLoadable, "m cannot be loaded: It lacks tensors."),
        (Ending("m", OUT_OF_MEMORY, "Too large."), InsufficientMemory, "Too large. Unload other models"),
        (Ending("m", -signal.SIGKILL, was_out_of_memory=True), InsufficientMemory, "given 0 B, of 0 B that were free"),
        (Ending("m", -signal.SIGKILL), EngineDied, "m was killed (SIGKILL) while it worked."),
        (Ending("m", -signal.SIGBUS, was_loading=True), EngineDied, "has its drive gone?) while it loaded."),
        (Ending("m", 1, "A traceback."), EngineDied, "ended (exit code 1) while it worked: A traceback."),
        (Ending("m", None), EngineDied, "broke off while it worked."),
    ],
)
def test_what_an_end_means(ending: Ending, kind: type, sentence: str) -> None:
    error = ending.explain()
    assert type(error) is kind and sentence in error.message


def test_memory_that_did_not_suffice_is_told_in_numbers() -> None:
    error = Ending("m", OUT_OF_MEMORY, needed_bytes=3 * 10**9, free_bytes=4 * 10**9).explain()
    assert "given 3.0 GB, of 4.0 GB that were free" in error.message
    assert error.details == {"needed_bytes": 3 * 10**9, "free_bytes": 4 * 10**9}


def test_only_an_engine_that_has_work_and_makes_no_step_is_stuck() -> None:
    progress = Progress(now=0)
    assert progress.stuck_seconds({"active": 1, "steps": 5}, now=10) == 0
    assert progress.stuck_seconds({"active": 1, "steps": 5}, now=30) == 20
    assert progress.stuck_seconds({"active": 1, "steps": 6}, now=40) == 0
    assert progress.stuck_seconds({"active": 0, "steps": 6}, now=90) == 0
    assert progress.stuck_seconds({"active": 1, "steps": 6}, now=95) == 5
    assert progress.stuck_seconds({"active": 1}, now=99) == 0


def test_an_engine_that_begins_with_nothing_of_what_waits_is_stuck_too() -> None:
    progress = Progress(now=0)
    assert progress.stuck_seconds({"active": 0, "queued": 2, "steps": 5}, now=10) == 0
    assert progress.stuck_seconds({"active": 0, "queued": 2, "steps": 5}, now=30) == 20
    assert progress.stuck_seconds({"active": 0, "queued": 0, "steps": 5}, now=40) == 0
