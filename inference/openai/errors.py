"""Any error as an OpenAI client reads it."""

from typing import Any

from django.http import JsonResponse

from homelab.api import openai_error_body
from homelab.errors import HomelabError

_MAY_HELP = {408, 409, 429}


def error_response(error: HomelabError) -> JsonResponse:
    """The clients try 408, 409, 429 and 5xx again by themselves: they are told where that cannot help."""
    response = JsonResponse(error_event(error), status=error.status)
    if wait := getattr(error, "retry_after_seconds", None):
        response["Retry-After"] = str(wait)
    elif error.status not in _MAY_HELP and error.status < 500:
        response["x-should-retry"] = "false"
    return response


def error_event(error: HomelabError) -> dict[str, Any]:
    return openai_error_body(error.code, error.message, status=error.status, param=getattr(error, "param", None))
