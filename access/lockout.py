"""What django-axes asks of us: by what a client is known, and what one hears who typed too many wrong passwords."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from homelab.addresses import sender_of
from homelab.api import answer_plainly


def client_of(request: HttpRequest) -> str | None:
    """None where the server cannot tell, as on a unix socket."""
    return sender_of(request.META.get("REMOTE_ADDR", "")) or None


def locked_out(request: HttpRequest, *_: Any) -> HttpResponse:
    wait_seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    message = f"Too many failed sign-ins came from this address. Try again in {wait_seconds // 60} minutes."
    answer = answer_plainly(request, status=429, code="too_many_sign_ins", message=message)
    answer["Retry-After"] = str(wait_seconds)
    return answer
