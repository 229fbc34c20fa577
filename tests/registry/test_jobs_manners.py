"""How much of the drives and the network jobs may take: what the owner says reaches the process that does the work."""

import shutil

import pytest

from cachemgr.errands import Errand
from registry.following import follow
from tests.cachemgr.conftest import skip_or_fail

ERRAND = Errand("tests.registry.errand_that_tells", {"task": "move"})


@pytest.fixture(autouse=True)
def needs_ionice() -> None:
    if shutil.which("ionice") is None:
        skip_or_fail("There is no ionice here (util-linux): nothing sets the class of a process.")


def told() -> dict:
    return follow(ERRAND, report=lambda **_: None)


def test_work_waits_for_its_drive_until_nobody_else_wants_it_and_has_no_limit(settings) -> None:
    assert told() == {"order": {"task": "move", "rate_limit": None}, "io": "idle"}


def test_the_owner_may_set_a_limit_and_give_jobs_their_share(settings) -> None:
    settings.TRANSFER_RATE_LIMIT_BYTES, settings.TRANSFER_PRIORITY = 5_000_000, "normal"
    assert told() == {"order": {"task": "move", "rate_limit": 5_000_000}, "io": "none"}
