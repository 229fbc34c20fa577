"""What the cache manager tells those above it, whose names it does not know."""

from django.dispatch import Signal

cache_measured = Signal()
"""Sent with `cache` and `is_scanned` after a measurement was stored. Without a scan the drive is away, or hangs."""

repo_trashed = Signal()
"""Sent with `entry`, a TrashedRepo, inside the transaction that notes that the repo's folder left its place."""

repo_restored = Signal()
"""Sent with `entry` inside the transaction that ends it: the repo's folder is in its place again."""
