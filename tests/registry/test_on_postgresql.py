"""What must hold whatever the database: bookings, races and records once more, on a real PostgreSQL server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cachemgr.conftest import skip_or_fail
from tests.postgres import find_programs, running_postgres

PROJECT = Path(__file__).resolve().parent.parent.parent
TESTS = [
    "tests/cachemgr/test_booking.py",
    "tests/registry/test_room.py",
    "tests/registry/test_races.py",
    "tests/registry/test_jobs_claims.py",
]
TESTS_OF_RECORDS = ["tests/inference/test_records.py", "tests/inference/test_stats.py"]
TESTS_OF_PAGES = ["tests/web/test_home_page.py", "tests/web/test_traffic.py", "tests/cachemgr/test_history.py"]


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    programs = find_programs()
    if programs is None:
        skip_or_fail("PostgreSQL is not installed: apt-get install postgresql")
    with running_postgres(programs) as url:
        yield url


@pytest.mark.parametrize(
    "tests",
    [TESTS, TESTS_OF_RECORDS, TESTS_OF_PAGES],
    ids=["bookings, promises and races", "records", "pages"],
)
def test_all_of_it_ends_the_same_on_postgresql(postgres_url: str, tests: list[str]) -> None:
    """A run of its own, because Django has one database for all of its life."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=PROJECT,
        env=os.environ | {"TEST_DATABASE_URL": postgres_url},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert " passed" in done.stdout and " skipped" not in done.stdout
