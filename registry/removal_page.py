"""The admin's question before models are removed: what becomes of their files?"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from homelab.errors import HomelabError
from registry import removal, services
from registry.act_page import are_too_many, with_sentence
from registry.models import ModelRegistry

_DONE = {
    "trash": "is in the trash",
    "trash_alone": "stays registered, and its files are in the trash",
    "keep": "is forgotten. Its files were left alone",
}


def ask_or_remove(
    request: HttpRequest, models: Sequence[ModelRegistry], *, context: dict[str, Any]
) -> HttpResponse | None:
    """The first POST shows the plans, the second has the answer; None where it is done."""
    files = request.POST.get("files")
    if files not in _DONE:
        if are_too_many(request, models):
            return None
        asked = {
            "title": "Remove models",
            "plans": [_plan(model) for model in models],
            "models": models,
            "trash_days": settings.TRASH_DAYS,
        }
        return TemplateResponse(request, "registry/remove.html", context | asked)
    for model in models:
        _remove(request, model, files=files)
    return None


def _plan(model: ModelRegistry) -> dict[str, Any]:
    """Where its drive is away, the reason takes the place of the figures."""
    try:
        return {"model": model, "plan": removal.plan_removal(model)}
    except HomelabError as error:
        return {"model": model, "problem": error.message}


def _remove(request: HttpRequest, model: ModelRegistry, *, files: str) -> None:
    def work() -> None:
        if files == "keep":
            services.forget(model)
        else:
            removal.remove(model, keeps_row=files == "trash_alone")

    with_sentence(request, work, done=f"{model.model_name} {_DONE[files]}.")
