"""What the Jobs page says of a job: words, buttons and what they mean."""

from datetime import timedelta

import pytest
from django.utils import timezone

from cachemgr.models import Cache, TrashedRepo
from registry.models import Job, ModelRegistry
from web.job_cards import make_card

FAST = Cache(pk=1, location="primary", path="/fast", is_configured=True)
FAR = Cache(pk=2, location="custom", path="/mnt/far")
MODEL = ModelRegistry(pk=7, model_name="m", hf_path="org/m")


def job(**values) -> Job:
    return Job(
        **{"pk": 3, "kind": "download", "model": MODEL, "hf_path": "org/m", "created_at": timezone.now()} | values
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "Waiting"),
        ({"error_message": "The Hub is busy. It is tried again."}, "Tries again"),
        ({"state": "running"}, "Running"),
        ({"state": "running", "cancel_requested": True}, "Ending"),
        ({"state": "running", "cancel_requested": True, "committed": True}, "Running"),
        ({"state": "done"}, "Done"),
        ({"state": "done", "options": {"kept": ["a"]}}, "Done, with a note"),
        ({"state": "done", "error_message": "The old files stay."}, "Done, with a note"),
        ({"state": "failed", "error_message": "No."}, "Failed"),
        ({"state": "cancelled", "cancel_requested": True}, "Cancelled"),
    ],
)
def test_a_state_is_a_word(values: dict, words: str) -> None:
    assert make_card(job(**values)).state.words == words


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ({"target": FAST}, ["the Hub", "primary"]),
        ({"kind": "move", "source": FAST, "target": FAR}, ["primary", "/mnt/far"]),
        ({"kind": "verify", "source": FAR}, ["/mnt/far"]),
        ({"kind": "remove"}, []),
    ],
)
def test_it_says_from_where_to_where(values: dict, places: list[str]) -> None:
    assert [place.name for place in make_card(job(**values)).places] == places


def test_a_bar_and_facts_are_those_of_open_jobs() -> None:
    running = {"state": "running", "stage": "downloading", "bytes_done": 10**9, "bytes_total": 4 * 10**9, "rate": 10**8}
    card = make_card(job(**running))
    assert (card.percent, card.facts) == (25.0, "downloading: 1.0 GB of 4.0 GB, 100 MB/s, 30 s left")
    assert make_card(job(state="running", stage="planning")).percent is None
    ending = make_card(job(**running, cancel_requested=True))
    assert (ending.percent, ending.facts) == (None, "ending")
    ended = make_card(job(**running | {"state": "failed", "error_message": "The drive is full."}))
    assert (ended.percent, ended.facts, ended.trouble) == (None, "", "The drive is full.")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "removes what came so far"),
        ({"kind": "move", "source": FAST, "target": FAR}, "removes the copy. The model stays in primary."),
        ({"kind": "verify"}, "No file is changed"),
        ({"kind": "remove"}, ""),
        ({"kind": "move", "source": FAST, "committed": True}, ""),
        ({"cancel_requested": True}, ""),
        ({"state": "done"}, ""),
    ],
)
def test_cancel_is_offered_with_what_it_does_while_there_is_a_way_back(values: dict, words: str) -> None:
    said = make_card(job(**values)).cancel_means
    assert (words in said) if words else said == ""


def test_what_failed_is_tried_again_repaired_or_helped_by_a_page() -> None:
    failed = {"state": "failed", "error_message": "It failed."}
    assert make_card(job(**failed)).may_retry and make_card(job(state="cancelled")).may_retry
    assert not make_card(job(state="done")).may_retry and not make_card(job()).may_retry
    assert not make_card(job(**failed, model=None, model_name="gone")).may_retry
    assert make_card(job(**failed, kind="verify", error_code="hash_mismatch")).may_repair
    assert not make_card(job(**failed, error_code="hash_mismatch")).may_repair
    routes = {"insufficient_space": "clean-page", "drive_read_only": "settings-page"}
    for code, route in routes.items():
        assert make_card(job(**failed, error_code=code)).advice.route == route
    assert make_card(job(**failed, error_code="stalled")).advice is None


def test_a_removal_can_be_taken_back_as_long_as_the_trash_has_it(settings) -> None:
    settings.TRASH_DAYS = 7
    entry = TrashedRepo(pk=5, cache=FAST, state="trashed", removed_at=timezone.now())
    card = make_card(job(kind="remove", state="done", model=None, model_name="m", trashed=entry))
    assert card.trash_until == entry.removed_at + timedelta(days=7) and card.model_name == "m"
    entry.state = "purging"
    assert make_card(job(kind="remove", state="done", trashed=entry)).trash_until is None


def test_details_have_what_is_known_and_nothing_that_is_empty() -> None:
    began = timezone.now()
    ended = {"state": "failed", "started_at": began, "finished_at": began + timedelta(seconds=20), "attempt": 2}
    card = make_card(job(**ended, bytes_done=10**9, bytes_total=2 * 10**9, error_code="stalled"))
    assert dict(card.details) == {
        "Job": "3",
        "Repo": "org/m",
        "Bytes": "1.0 GB of 2.0 GB",
        "Took": "20 s",
        "Attempts": "2",
        "Error code": "stalled",
    }
    assert dict(make_card(job(**ended | {"attempt": 1}, bytes_done=10**9)).details)["On average"] == "50.0 MB/s"
    assert [name for name, _ in card.moments] == ["Asked for", "Began", "Ended"]
    assert dict(make_card(job()).details) == {"Job": "3", "Repo": "org/m"}
