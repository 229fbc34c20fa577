"""Any error as an OpenAI client reads it. The clients try 408, 409, 429 and 5xx again by themselves: they are told
where that cannot help, and when it may."""

from typing import Any

from django.http import JsonResponse

from homelab.api import openai_error_body
from homelab.errors import Conflict, HomelabError

DATABASE_AWAY = "The database does not answer now: it is locked, full or away. Try again in a few seconds."
_CONFLICT_SECONDS = 2


class MethodNotAllowed(HomelabError):
    code = "method_not_allowed"
    status = 405


class DatabaseAway(HomelabError):
    code = "database_unavailable"
    status = 503
    retry_after_seconds = 5


def error_response(error: HomelabError) -> JsonResponse:
    return JsonResponse(error_event(error), status=status_of(error), headers=headers_of(error))


def error_event(error: HomelabError) -> dict[str, Any]:
    return openai_error_body(error.code, error.message, status=status_of(error), param=getattr(error, "param", None))


def status_of(error: HomelabError) -> int:
    """A conflict is somebody else's work on the same files, which ends: for a client of the gateway, a wait."""
    return 503 if isinstance(error, Conflict) else error.status


def headers_of(error: HomelabError) -> dict[str, str]:
    wait = _CONFLICT_SECONDS if isinstance(error, Conflict) else getattr(error, "retry_after_seconds", None)
    return {"Retry-After": str(wait), "x-should-retry": "true"} if wait else {"x-should-retry": "false"}
