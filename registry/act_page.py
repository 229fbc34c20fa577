"""The page between a button and what it does: the plan, and a button that says yes."""

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from homelab.errors import HomelabError
from registry.acts import Act, Line, shortage, sum_up
from registry.models import ModelRegistry

MOST_AT_A_TIME = 50
"""Models in one plan: it asks their drives, one after the other."""


def ask_or_do(
    request: HttpRequest, act: Act, models: Sequence[ModelRegistry], *, context: dict[str, Any]
) -> HttpResponse | None:
    """The first request shows the plan, a POST with `sure` does it; None where it is done."""
    if request.method == "POST" and "sure" in request.POST:
        for model in models:
            with_sentence(request, lambda model=model: act.do(model), done=str)
        return None
    return None if are_too_many(request, models) else _ask(request, act, models, context=context)


def are_too_many(request: HttpRequest, models: Sequence[ModelRegistry]) -> bool:
    """Says so."""
    if len(models) <= MOST_AT_A_TIME:
        return False
    messages.error(request, f"A plan is made for {MOST_AT_A_TIME} models at a time. Choose fewer.")
    return True


def _ask(
    request: HttpRequest, act: Act, models: Sequence[ModelRegistry], *, context: dict[str, Any]
) -> TemplateResponse:
    lines = [look(act, model) for model in models]
    asked = {
        "title": act.question,
        "act": act,
        "models": models,
        "lines": lines,
        "able": sum(not line.problem for line in lines),
        "total": sum_up(lines),
        "shortage": shortage(lines),
        "action": request.POST.get("action", ""),
        "back": page_of(models),
        "is_part": is_part(request),
    }
    template = "registry/act_plan.html" if is_part(request) else "registry/act.html"
    return TemplateResponse(request, template, context | asked)


def is_part(request: HttpRequest) -> bool:
    """Whether it becomes a part of a page that is open, by htmx."""
    return request.headers.get("HX-Request") == "true"


def page_of(models: Sequence[ModelRegistry]) -> str:
    """The address of the one model's page, or of the list."""
    if len(models) == 1:
        return reverse("admin:registry_modelregistry_change", args=[models[0].pk])
    return reverse("admin:registry_modelregistry_changelist")


def look(act: Act, model: ModelRegistry) -> Line:
    """Its plan, or why there is none."""
    try:
        return act.plan(model)
    except HomelabError as error:
        return Line(model=model, problem=error.message)


def with_sentence(request: HttpRequest, work: Any, *, done: str | Callable[[Any], str]) -> None:
    """Does it and says so, or says why not. `done` is a sentence, or makes one of what came of it."""
    try:
        result = work()
    except HomelabError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, done if isinstance(done, str) else done(result))
