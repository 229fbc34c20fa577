"""Parts of pages that htmx asks for, and what is said beside them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase


@dataclass(frozen=True, slots=True)
class Notice:
    """What came of a button, as a sentence. `level` is one of Django's messages."""

    words: str
    level: int = messages.SUCCESS

    @property
    def is_trouble(self) -> bool:
        return self.level >= messages.WARNING


def part_view(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """As `admin_view`, but who may not see it gets no sign-in page into the middle of another page."""
    protected = admin.site.admin_view(view)

    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponseBase:
        if not admin.site.has_permission(request):
            return HttpResponse("Sign in first.", status=401, content_type="text/plain")
        return protected(request)

    return answer


def unchanged() -> HttpResponse:
    """htmx leaves the page as it is."""
    return HttpResponse(status=204)
