"""Moves that are run step by step."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cachemgr.hands.trips import Trip, fill, make_caches


@pytest.fixture
def trip(tmp_path: Path, mount: Callable[..., Path]) -> Trip:
    """Between two filesystems."""
    trip = make_caches(tmp_path)
    mount(trip.target)
    fill(trip.source)
    return trip
