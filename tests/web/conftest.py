"""What the tests of pages share."""

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def forgetful() -> None:
    """What one test asked the Hub is not remembered by another."""
    cache.clear()
