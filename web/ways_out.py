"""What solves a lack of space, as buttons: of the actions that the refusal names."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from cachemgr import services as caches
from registry.models import ModelRegistry
from registry.placing import Place

_LABELS = {
    "choose_cache": ("Choose it", "check"),
    "empty_trash": ("Open the trash", "delete"),
    "move": ("Show the move", "drive_file_move"),
    "remove": ("Show the removal", "delete_sweep"),
    "free_space": ("Look for what nobody needs", "cleaning_services"),
}


@dataclass(frozen=True, slots=True)
class WayOut:
    """`label` is "" where a sentence is all that helps. `location` is the cache to choose, `url` the page to open: in
    place where `is_plan`."""

    sentence: str
    label: str = ""
    icon: str = ""
    location: str = ""
    url: str = ""
    is_plan: bool = False


def find_ways_out(place: Place) -> list[WayOut]:
    """Asks no drive."""
    error = caches.shortage(place.verdict, cache=place.cache, measured=place.measured)
    return list(_ways(error.details.get("actions", [])))


def _ways(actions: list[dict[str, Any]]) -> Iterator[WayOut]:
    for each in actions:
        label, icon = _LABELS.get(each["action"], ("", ""))
        is_choice = each["action"] == "choose_cache"
        yield WayOut(
            each["sentence"],
            label,
            icon,
            location=each["cache_location"] if is_choice else "",
            url="" if is_choice else _url(each),
            is_plan=each["action"] == "move",
        )


def _url(action: dict[str, Any]) -> str:
    if action["action"] == "empty_trash":
        return reverse("admin:cachemgr_trashedrepo_changelist")
    if action["action"] == "free_space":
        return reverse("clean-page")
    if action["action"] not in {"move", "remove"}:
        return ""
    keys = ModelRegistry.objects.filter(model_name__in=action["models"]).values_list("pk", flat=True)
    to = [("to", action["cache_location"])] if action["action"] == "move" else []
    query = [*(("model", key) for key in keys), *to]
    return f"{reverse('admin:registry_modelregistry_act', args=[action['action']])}?{urlencode(query)}"
