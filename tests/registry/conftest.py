"""The real drives of the cache manager's tests, for the registry's too."""

from tests.cachemgr.conftest import drive_without_links, hung_drive, mount

__all__ = ["drive_without_links", "hung_drive", "mount"]
