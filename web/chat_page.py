"""The Chat page. It asks our own /v1/chat/completions from the browser, and nothing of a chat is kept on the server."""

from dataclasses import asdict
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from inference.openai.schema import MAX_STOPS
from registry.models import ModelRegistry
from web.chat_choices import SETTINGS, STOPS_HELP, make_choice


@require_safe
def chat_page(request: HttpRequest) -> HttpResponse:
    """`part=models` is what the page's script needs to know of the models, now."""
    choices = [asdict(make_choice(model)) for model in ModelRegistry.objects.all()]
    if request.GET.get("part") == "models":
        return JsonResponse(choices, safe=False)
    context = {
        "title": "Chat",
        "settings": SETTINGS,
        "stops_help": STOPS_HELP,
        "facts": {"models": choices, "needsKey": _needs_key(request), "mostStops": MAX_STOPS, "links": _links()},
    }
    return TemplateResponse(request, "web/chat.html", admin.site.each_context(request) | context)


def _needs_key(request: HttpRequest) -> bool:
    """Does a program have to send one, from where this browser is?"""
    return not getattr(request, "scope", {}).get("homelab.local", False)


def _links() -> dict[str, Any]:
    return {
        "login": f"{reverse('login')}?next={reverse('chat-page')}",
        "models": reverse("admin:registry_modelregistry_changelist"),
    }
