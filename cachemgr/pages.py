"""The Settings page: a bar per cache, from the newest snapshots."""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods

from cachemgr import monitor
from cachemgr.stats import CacheLine, cache_lines

_EXPLANATIONS = {
    "ok": ("check_circle", "Fine"),
    "warning": ("warning", "Nearly full"),
    "critical": ("error", "Almost no room left"),
    "over_limit": ("error", "Over its limit"),
    "read_only": ("lock", "Read-only"),
    "missing": ("link_off", "Not there"),
    "unmounted": ("eject", "Not mounted"),
    "unresponsive": ("hourglass_disabled", "Does not answer"),
    "not_measured": ("hourglass_empty", "Not measured yet"),
}


@require_http_methods(["GET", "POST"])
def settings_page(request: HttpRequest) -> HttpResponse:
    """GET shows the figures; POST is the button Refresh Cache Stats."""
    if request.method == "POST":
        monitor.measure_caches(limit_seconds=monitor.REFRESH_SECONDS)
        messages.success(request, "The caches were measured just now.")
        return redirect("settings-page")
    context = {
        **admin.site.each_context(request),
        "title": "Settings",
        "lines": [_card(line) for line in cache_lines()],
        "threshold_percent": settings.CACHE_WARNING_THRESHOLD * 100,
        "interval_seconds": settings.CACHE_MONITOR_INTERVAL_SECONDS,
        "configuration": _configuration(),
    }
    return TemplateResponse(request, "cachemgr/settings.html", context)


def _card(line: CacheLine) -> dict[str, Any]:
    icon, words = _EXPLANATIONS[line.status]
    used = min(100.0, line.usage_percent)
    reserved = min(100.0 - used, line.reserved_percent)
    return {"line": line, "figures": line.figures, "icon": icon, "words": words, "used": used, "reserved": reserved}


def _configuration() -> list[tuple[str, str]]:
    """What counts now. Change it in `.env` and start again."""
    return [
        ("PRIMARY_CACHE_PATH", str(settings.PRIMARY_CACHE_PATH)),
        ("PRIMARY_CACHE_LIMIT_GB", f"{settings.PRIMARY_CACHE_LIMIT_BYTES / 10**9:g}"),
        ("SECONDARY_CACHE_PATH", str(settings.SECONDARY_CACHE_PATH)),
        ("SECONDARY_CACHE_LIMIT_GB", f"{settings.SECONDARY_CACHE_LIMIT_BYTES / 10**9:g}"),
        ("CACHE_WARNING_THRESHOLD", f"{settings.CACHE_WARNING_THRESHOLD:g}"),
        ("CACHE_MONITOR_INTERVAL_SECONDS", str(settings.CACHE_MONITOR_INTERVAL_SECONDS)),
        ("DISK_RESERVE_GB", f"{settings.DISK_RESERVE_BYTES / 10**9:g}"),
        ("DATA_DIR", str(settings.DATA_DIR)),
        ("HF_ENDPOINT", settings.HF_ENDPOINT),
    ]
