"""The real drives of the cache manager's tests, for the registry's too."""

from pathlib import Path

import pytest

from tests.cachemgr.conftest import drive_without_links, hung_drive, mount
from tests.factories import loadable_files, make_cached_repo

__all__ = ["drive_without_links", "hung_drive", "mount"]


@pytest.fixture
def model(caches):
    """A ready model on the primary cache: `m`, of org/m."""
    from cachemgr.monitor import measure_caches
    from registry.models import ModelRegistry

    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    measure_caches()
    return ModelRegistry.objects.get()
