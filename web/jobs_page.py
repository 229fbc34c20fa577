"""The Jobs page: what runs and waits, live, and below it what has ended."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from registry import checkups, jobs, removal
from registry.act_page import with_sentence
from registry.job_queue import JobQuerySet
from registry.models import Job
from registry.services import find_job, model_of
from web.job_cards import KINDS, make_card
from web.rights import may_change, refuse_onlookers

PAGE_SIZE = 50
MOST_OPEN = 200
_NUMBER = 2**63 - 1
_ENDED = [(state.value, state.label) for state in Job.State if state not in Job.OPEN]
_KINDS = [(kind.value, sign.words) for kind, sign in KINDS.items()]


class JobFilter(forms.Form):
    """What the URL asks for. `before`: the number of the last job on the page before."""

    state = forms.ChoiceField(label="How it ended", choices=[("", "Any end"), *_ENDED], required=False)
    kind = forms.ChoiceField(label="Kind", choices=[("", "Any kind"), *_KINDS], required=False)
    model = forms.CharField(label="Model", max_length=200, required=False)
    before = forms.IntegerField(min_value=1, max_value=_NUMBER, required=False, widget=forms.HiddenInput)

    @property
    def asked(self) -> dict[str, Any]:
        """Without what is empty or wrong."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}

    def narrow(self, found: JobQuerySet) -> JobQuerySet:
        """By kind and model."""
        asked = self.asked
        if kind := asked.get("kind"):
            found = found.filter(kind=kind)
        return found.naming(asked["model"]) if "model" in asked else found

    def ended(self) -> JobQuerySet:
        asked = self.asked
        found = self.narrow(Job.objects.for_display().ended())
        if state := asked.get("state"):
            found = found.filter(state=state)
        return found.filter(pk__lt=asked["before"]) if "before" in asked else found

    def query(self, **others: Any) -> str:
        return urlencode({name: value for name, value in (self.asked | others).items() if value})


@require_safe
def jobs_page(request: HttpRequest) -> HttpResponse:
    """`part`: "open" or "all" is the list alone, for the page's script."""
    asked, part = JobFilter(request.GET), request.GET.get("part")
    context = {"filter": asked, "query": asked.query(), "part": part, "open": _open(asked), "most_open": MOST_OPEN}
    context["may_change"] = may_change(request)
    if part != "open":
        context |= _ended(asked)
    if part in {"open", "all"}:
        return TemplateResponse(request, "web/jobs_list.html", context)
    return TemplateResponse(request, "web/jobs.html", admin.site.each_context(request) | {"title": "Jobs"} | context)


def _open(asked: JobFilter) -> list[Any]:
    """Those that run first, then in the order in which they have their turn."""
    found = asked.narrow(Job.objects.for_display().open()).order_by("-state", "pk")
    return [make_card(job) for job in found[:MOST_OPEN]]


def _ended(asked: JobFilter) -> dict[str, Any]:
    found = [make_card(job) for job in asked.ended()[: PAGE_SIZE + 1]]
    shown = found[:PAGE_SIZE]
    return {
        "ended": shown,
        "older": asked.query(before=shown[-1].pk) if len(found) > PAGE_SIZE else "",
        "newest": asked.query(before=None),
        "is_filtered": bool(asked.asked.keys() - {"before"}),
        "is_later_page": "before" in asked.asked,
    }


# The buttons


@require_POST
def act_on_job(request: HttpRequest, pk: str, action: str) -> HttpResponse:
    """Does it and leads back to the page as it was; a refusal is a sentence there."""
    refuse_onlookers(request)
    work, done = ACTIONS[action]
    with_sentence(request, lambda: work(find_job(int(pk), listed_by="The Jobs page")), done=done)
    query = request.GET.urlencode()
    return redirect(f"{reverse('jobs-page')}{'?' if query else ''}{query}")


def _cancel(job: Job) -> Job:
    return jobs.cancel_job(job)


def _retry(job: Job) -> Job:
    return jobs.retry_job(job)


def _repair(job: Job) -> Job:
    return checkups.request_repair(model_of(job))


def _undo(job: Job) -> Job:
    removal.undo(job)
    return job


ACTIONS: dict[str, tuple[Callable[[Job], Job], Callable[[Job], str]]] = {
    "cancel": (_cancel, lambda job: f"The {job.kind} of {job.title} ends. What is half done is cleaned up."),
    "retry": (_retry, lambda job: f"The {job.kind} of {job.title} is queued again."),
    "repair": (_repair, lambda job: f"What is bad or missing of {job.title} is fetched."),
    "undo": (_undo, lambda job: f"{job.title} is back in its place."),
}
