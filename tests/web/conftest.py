"""What the tests of pages share."""

import pytest
from django.core.cache import cache
from django.test import Client

from homelab.owner import owner_account


@pytest.fixture
def browser(db: None) -> Client:
    """Signed in as the owner: in these tests no gate stands before Django."""
    client = Client()
    client.force_login(owner_account())
    return client


@pytest.fixture(autouse=True)
def forgetful() -> None:
    """What one test asked the Hub is not remembered by another."""
    cache.clear()
