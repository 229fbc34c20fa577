"""Contents that lie on our drives already, under whatever name and in whatever repo: they need not be fetched."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cachemgr import monitor
from cachemgr.chores import AWAY
from cachemgr.drive_report import ANSWERING
from cachemgr.errands import Errand, finish, place_of
from cachemgr.models import Cache

_PATIENCE_SECONDS = 15.0  # a disk that sleeps takes its time, and is still faster than the network


@dataclass(frozen=True, slots=True)
class Lying:
    """A file with a content: `name` is its path below the cache. Its bytes were not read."""

    cache: Cache
    name: str


def find_contents(sizes: Mapping[str, int], *, near: Cache) -> dict[str, Lying]:
    """Files by digest, for contents of these sizes in bytes. Those in the cache `near` come first, then those on its
    filesystem. A drive that does not answer within seconds is passed over."""
    if not sizes:
        return {}
    device = near.latest.device if near.latest else None
    caches = monitor.those_that_answer([cache for cache in Cache.objects.listed() if _is_at_hand(cache)])
    caches.sort(key=lambda cache: (cache.pk != near.pk, cache.latest is None or cache.latest.device != device))
    with ThreadPoolExecutor(max_workers=max(1, len(caches))) as threads:
        answers = list(threads.map(lambda cache: _ask(cache, sizes), caches))
    found: dict[str, Lying] = {}
    for cache, names in zip(caches, answers, strict=True):
        found = {digest: Lying(cache, name) for digest, name in names.items()} | found
    return found


def _is_at_hand(cache: Cache) -> bool:
    """By the last measurement. One that was never adopted has no marker to know it by."""
    return bool(cache.uuid) and cache.latest is not None and cache.latest.state in ANSWERING


def _ask(cache: Cache, sizes: Mapping[str, int]) -> dict[str, str]:
    order = {"task": "find", "root": place_of(cache), "sizes": dict(sizes)}
    try:
        done = finish(Errand("cachemgr.hands", order), quiet_seconds=_PATIENCE_SECONDS)
    except AWAY:
        return {}  # it went away since it was asked, or is too slow
    return dict(done["found"])
