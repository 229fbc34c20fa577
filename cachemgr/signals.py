"""What the cache manager tells those above it, whose names it does not know."""

from django.dispatch import Signal

cache_measured = Signal()
"""Sent with `cache` and `is_scanned` after a measurement was stored. Without a scan the drive is away, or hangs."""
