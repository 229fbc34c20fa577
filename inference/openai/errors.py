"""Any error as an OpenAI client reads it."""

from typing import Any

from django.http import JsonResponse

from homelab.api import describe_error
from homelab.errors import HomelabError

DATABASE_AWAY = "The database does not answer now: it is locked, full or away. Try again in a few seconds."


class MethodNotAllowed(HomelabError):
    code = "method_not_allowed"
    status = 405


class DatabaseAway(HomelabError):
    code = "database_unavailable"
    status = 503
    retry_after_seconds = 5


def error_response(error: HomelabError) -> JsonResponse:
    status, headers, content = describe_error(error, path="/v1")
    return JsonResponse(content, status=status, headers=headers)


def error_event(error: HomelabError) -> dict[str, Any]:
    _, _, content = describe_error(error, path="/v1")
    return content
