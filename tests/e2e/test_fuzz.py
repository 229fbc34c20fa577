"""Less than a minute of what `script/fuzz` does for longer: nothing that the OpenAPI document allows, or not, is a mistake of ours."""

from pathlib import Path

import pytest

from tests.e2e.fuzzing import fuzz, tracebacks_of

pytestmark = pytest.mark.e2e
SECONDS = 45


@pytest.mark.filterwarnings("ignore::Warning")  # of the library that makes the requests
def test_nothing_that_clients_may_send_breaks_the_server(tmp_path: Path) -> None:
    tally, server = fuzz(tmp_path, count=20_000, seconds=SECONDS, seed_number=1)
    assert not tally.problems, tally.describe()
    assert tally.requests > 300 and tally.server_errors == tally.pages == tally.violations == 0
    assert {200, 201, 400, 404, 405, 415} <= tally.statuses.keys(), tally.describe()
    assert tracebacks_of(server) == 0
