"""What tests of pages share: a browser's session of the owner."""

import pytest
from django.test import Client

from homelab.owner import owner_account


@pytest.fixture
def browser(db) -> Client:
    client = Client()
    client.force_login(owner_account())
    return client


@pytest.fixture(autouse=True)
def forgetful():
    """What one test asked the Hub is not remembered by another."""
    from django.core.cache import cache

    cache.clear()
