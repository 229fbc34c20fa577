"""What a registration would mean, before it is made: what the repo is, and each cache with it. Nothing is written."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.conf import settings

from cachemgr import services as caches
from cachemgr.models import Cache
from cachemgr.units import format_bytes
from homelab.errors import HomelabError
from registry.adoption import free_name
from registry.models import NAME_PATTERN, ModelRegistry
from registry.placing import Estimate, Place, consider, weigh_places
from web.repo_facts import RepoFacts, find_facts
from web.space_after import SpaceAfter, draw_space
from web.ways_out import WayOut, find_ways_out

_NAMES = {"primary": "the primary cache", "secondary": "the secondary cache"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What stands in the form. `problem`: what of it cannot be; then nobody is asked anything."""

    hf_path: str
    revision: str = "main"
    location: str = ""
    path: str = ""
    typed_bytes: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """How it would be in the cache that is chosen in the form: `refusal` or `warning`, and what helps."""

    refusal: str = ""
    warning: str = ""
    ways: Sequence[WayOut] = ()


@dataclass(frozen=True, slots=True)
class Outlook:
    """`recommended` is a location, or "" where it fits nowhere. `after` by location. `name` is a free one for it, ""
    where none can be made of the repo's. `known_as`: models of that repo that are registered."""

    repo: RepoFacts
    recommended: str
    reason: str
    after: dict[str, SpaceAfter]
    lying: Sequence[str]
    chosen: Chosen
    name: str
    known_as: Sequence[str]


def look_ahead(asked: Asked) -> Outlook:
    """Asks the Hub and the drives, each within seconds."""
    repo = find_facts(asked.hf_path, revision=asked.revision, typed_bytes=asked.typed_bytes)
    estimate = weigh_places(asked.hf_path, size=repo.size)
    places = {place.cache.location: place for place in estimate.places if place.cache.is_configured}
    custom, refusal = _find_custom(asked)
    if custom is not None:
        places[asked.location] = consider(custom, asked.hf_path, size=repo.size)
    if repo.size.source == "unknown":  # then a bar would only say that nothing fits everywhere
        places = {name: place for name, place in places.items() if place.revision is not None}
    recommended, reason = _recommend(estimate, places)
    threshold = settings.CACHE_WARNING_THRESHOLD
    return Outlook(
        repo=repo,
        recommended=recommended,
        reason=reason,
        after={name: draw_space(place.verdict, warning_threshold=threshold) for name, place in places.items()},
        lying=tuple(_lying(estimate.places)),
        chosen=Chosen(refusal=refusal) if refusal else _judge(places.get(asked.location)),
        name=_propose_name(asked.hf_path),
        known_as=list(ModelRegistry.objects.filter(hf_path=asked.hf_path).values_list("model_name", flat=True)),
    )


def _find_custom(asked: Asked) -> tuple[Cache | None, str]:
    """The cache of a custom path, or what is wrong with that path."""
    if asked.location != Cache.Location.CUSTOM or not asked.path:
        return None, ""
    try:
        return caches.find_cache(asked.location, path=asked.path), ""
    except HomelabError as error:
        return None, error.message


def _recommend(estimate: Estimate, places: dict[str, Place]) -> tuple[str, str]:
    """Where it lies whole already, nothing has to be downloaded."""
    for location, place in places.items():
        if place.revision is not None and place.cache.is_configured:
            return location, "It lies there already, whole: nothing has to be downloaded."
    if estimate.size.source == "unknown":
        return "", ""
    return estimate.recommendation.location or "", estimate.recommendation.reason


def _lying(places: Sequence[Place]) -> Iterator[str]:
    for place in places:
        where = _NAMES.get(place.cache.location if place.cache.is_configured else "", place.cache.path)
        present = format_bytes(place.need.present_bytes)
        if place.revision is not None:
            yield f"{present} lie in {where} already: all of it."
        elif place.need.present_bytes:
            yield f"{present} of it lie in {where} already; {format_bytes(place.need.size_bytes)} are to come."


def _judge(place: Place | None) -> Chosen:
    if place is None:
        return Chosen()
    verdict = place.verdict
    gives_way = verdict.in_trash.freed_bytes >= verdict.shortfall_bytes > 0
    if verdict.is_refusal and gives_way and verdict.limiting_factor in {"limit", "disk"}:
        freed = format_bytes(verdict.shortfall_bytes)
        return Chosen(warning=f"{verdict.message} The oldest of its trash is emptied for it: {freed} at least.")
    if verdict.is_refusal:
        return Chosen(refusal=verdict.message, ways=find_ways_out(place))
    return Chosen(warning=verdict.message if verdict.warning else "")


def _propose_name(hf_path: str) -> str:
    name = free_name(hf_path, taken=set(ModelRegistry.objects.values_list("model_name", flat=True)))
    return name if re.match(NAME_PATTERN, name) else ""
