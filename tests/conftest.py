"""What tests share: two fresh caches, a hub that can misbehave, and a client that acts as the owner."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.factories import make_cached_repo as write_cached_repo

if TYPE_CHECKING:
    from django.test import Client

LONGEST_FIRST = ("tests/torture/", "tests/e2e/", "tests/registry/test_on_postgresql.py", "tests/inference/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first, so that at the end no process waits for the other."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST_FIRST))


@dataclass(frozen=True)
class Caches:
    """The rows of the two configured caches; their paths are fresh folders."""

    primary: "object"
    secondary: "object"


@pytest.fixture
def caches(db: None, tmp_path: Path, settings: object) -> Caches:
    from cachemgr.models import Cache
    from cachemgr.services import sync_configured_caches

    for name, limit in (("primary", 10**9), ("secondary", 10**10)):
        folder = tmp_path / name
        folder.mkdir()
        setattr(settings, f"{name.upper()}_CACHE_PATH", folder)
        setattr(settings, f"{name.upper()}_CACHE_LIMIT_BYTES", limit)
    settings.CACHE_ALLOWED_ROOTS = [tmp_path]
    Cache.objects.all().delete()
    sync_configured_caches()
    rows = {cache.location: cache for cache in Cache.objects.all()}
    return Caches(primary=rows["primary"], secondary=rows["secondary"])


@pytest.fixture
def make_cached_repo() -> Callable[..., Path]:
    return write_cached_repo


@pytest.fixture
def api(db: None) -> object:
    """A client of the REST API that acts as the owner: in these tests no gate stands before Django."""
    from rest_framework.test import APIClient

    from homelab.owner import owner_account

    client = APIClient()
    client.force_authenticate(owner_account())
    return client


@pytest.fixture
def hub_repos(tmp_path: Path) -> Path:
    """Where the test hub's repos lie: `<org>/<name>/<files>`."""
    folder = tmp_path / "hub"
    folder.mkdir()
    return folder


@pytest.fixture
def hub(hub_repos: Path, settings: object) -> Iterator[object]:
    """A real hub on loopback that can misbehave; the settings point at it."""
    from tests.hub import FaultyHub

    with FaultyHub(hub_repos).serve() as running:
        settings.HF_ENDPOINT = running.endpoint
        yield running


@pytest.fixture
def browser(db: None) -> "Client":
    """Signed in as the owner: in these tests no gate stands before Django."""
    from django.test import Client

    from homelab.owner import owner_account

    client = Client()
    client.force_login(owner_account())
    return client
