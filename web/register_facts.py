"""A part of Register New Model, asked for while somebody types: what `register_outlook` sees. GET alone."""

import re
from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET

from cachemgr.models import Cache
from cachemgr.stats import cache_lines
from cachemgr.units import MB
from homelab.errors import InvalidValue
from registry import services
from registry.forms import SizeField, describe_line
from registry.models import REVISION_PATTERN, REVISION_RULE, Job, ModelRegistry
from web.register_outlook import Asked, Outlook, look_ahead

_MAKES_ROOM = (Job.Kind.MOVE, Job.Kind.REMOVE)


@require_GET
def register_facts(request: HttpRequest) -> HttpResponse:
    if not admin.site.get_model_admin(ModelRegistry).has_add_permission(request):
        raise PermissionDenied
    asked = read_form(request.GET)
    is_making_room = Job.objects.open().filter(kind__in=_MAKES_ROOM).exists()  # asked first: what it frees comes later
    outlook = look_ahead(asked) if asked.hf_path and not asked.problem else None
    shown = {
        "asked": asked,
        "outlook": outlook,
        "choices": _choices(outlook),
        "is_making_room": is_making_room,
    }
    return TemplateResponse(request, "web/register_facts.html", shown)


def read_form(data: Mapping[str, Any]) -> Asked:
    """As the form itself checks it."""
    words = {name: str(data.get(name, "")) for name in ("hf_path", "wanted_revision", "cache_location", "cache_path")}
    hf_path, revision = words["hf_path"].strip(), words["wanted_revision"].strip() or "main"
    try:
        megabytes = SizeField(required=False).clean(data.get("estimated_size_mb", ""))
        if hf_path:
            services.check_hf_path(hf_path)
    except (InvalidValue, ValidationError) as error:
        return Asked(hf_path, problem=error.messages[0] if isinstance(error, ValidationError) else error.message)
    if not re.match(REVISION_PATTERN, revision):
        return Asked(hf_path, problem=REVISION_RULE)
    typed_bytes = round(megabytes * MB) if megabytes else None
    return Asked(hf_path, revision, words["cache_location"], words["cache_path"], typed_bytes)


def _choices(outlook: Outlook | None) -> list[dict[str, Any]]:
    """The caches as the form has them, each with its bar: as it is, or as it would be."""
    lines = {line.cache.location: line for line in cache_lines() if line.cache.is_configured}
    return [
        {
            "location": location,
            "line": lines.get(location),
            "words": describe_line(lines[location]) if location in lines else "",
            "after": outlook.after.get(location) if outlook else None,
            "is_recommended": outlook is not None and outlook.recommended == location,
        }
        for location in Cache.Location.values
    ]
