"""One JSON error shape for every answer under `/api`, whoever raised the error.

`{"error": {"code": "...", "message": "a sentence", "details": {...}}}`
"""

import logging
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse
from rest_framework import exceptions, serializers
from rest_framework.fields import get_error_detail
from rest_framework.response import Response
from rest_framework.views import set_rollback

from homelab.errors import Conflict, HomelabError, openai_type
from homelab.routes import is_below

logger = logging.getLogger(__name__)

_CONFLICT_SECONDS = 2
ERROR_ANSWERS = {
    "4XX": "The request is refused, and the code says why.",
    "5XX": "It cannot be done now, for the reason that the code names: a drive is away (503), the database does not "
    "answer (503), there is no room (507), an engine failed (500, 504), the Hub refused (502).",
}


def error_body(code: str, message: str, *, details: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": details or {}}}


def openai_error_body(code: str, message: str, *, status: int, param: str | None = None) -> dict[str, Any]:
    """The shape that OpenAI's clients read, for every answer under `/v1`."""
    return {"error": {"message": message, "type": openai_type(status), "param": param, "code": code}}


def describe_error(error: HomelabError, *, path: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and JSON of an answer that is not DRF's, in the shape of the path's API."""
    if is_below(path, "/v1"):
        return _describe_for_openai(error)
    wait = getattr(error, "retry_after_seconds", None)
    headers = {"Retry-After": str(wait)} if wait else {}
    return error.status, headers, error_body(error.code, error.message, details=error.details)


def _describe_for_openai(error: HomelabError) -> tuple[int, dict[str, str], dict[str, Any]]:
    """OpenAI's clients try 408, 409, 429 and 5xx again by themselves: they are told where that cannot help, and when it
    may. A conflict is somebody else's work on the same files, which ends: for them, a wait."""
    is_conflict = isinstance(error, Conflict)
    status = 503 if is_conflict else error.status
    wait = _CONFLICT_SECONDS if is_conflict else getattr(error, "retry_after_seconds", None)
    headers = {"Retry-After": str(wait), "x-should-retry": "true"} if wait else {"x-should-retry": "false"}
    param = getattr(error, "param", None)
    return status, headers, openai_error_body(error.code, error.message, status=status, param=param)


def answer_exception(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler: nothing leaves as HTML or as a traceback."""
    set_rollback()
    if isinstance(error, HomelabError):
        wait = getattr(error, "retry_after_seconds", None)
        body = error_body(error.code, error.message, details=error.details)
        return Response(body, status=error.status, headers={"Retry-After": str(wait)} if wait else None)
    if isinstance(error, DjangoValidationError):
        error = exceptions.ValidationError(get_error_detail(error))
    elif isinstance(error, Http404):
        error = exceptions.NotFound(str(error) or None)
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, DatabaseError):
        logger.exception("The database failed in %s", context["request"].path, exc_info=error)
        return Response(error_body("database_unavailable", _DATABASE), status=503, headers={"Retry-After": "5"})
    if isinstance(error, exceptions.APIException):
        return _answer_api_exception(error)
    logger.exception("Unexpected error in %s", context["request"].path, exc_info=error)
    return Response(error_body("internal_error", _INTERNAL), status=500)


_INTERNAL = "The server made a mistake that it did not expect. Its log has the details."
_DATABASE = "The database does not answer now: it is locked, full or away. Try again in a few seconds."


def _answer_api_exception(error: exceptions.APIException) -> Response:
    headers = {}
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    if scheme := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = scheme
    if isinstance(error, exceptions.ValidationError):
        fields = {name: list(problems) for name, problems in _problems_by_field(error.get_full_details())}
        message = " ".join(_sentence(name, problems[0]) for name, problems in fields.items())
        body = error_body(_first_code(fields), message, details={"fields": fields})
    else:
        codes = error.get_codes()
        body = error_body(codes if isinstance(codes, str) else error.default_code, str(error.detail))
    return Response(body, status=error.status_code, headers=headers)


def _problems_by_field(details: Any) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """DRF nests details by field; flattens them to (field, [{code, message}])."""
    if isinstance(details, list):
        details = {"": details}
    for name, problems in details.items():
        if isinstance(problems, dict) and "message" not in problems:
            for inner, found in _problems_by_field(problems):
                yield f"{name}.{inner}", found
        else:
            found = problems if isinstance(problems, list) else [problems]
            yield name, [{"code": str(each["code"]), "message": str(each["message"])} for each in found]


def _sentence(name: str, problem: dict[str, str]) -> str:
    if name in {"", "non_field_errors"} or name in problem["message"]:
        return problem["message"]
    return f"{name}: {problem['message']}"


def _first_code(fields: dict[str, list[dict[str, str]]]) -> str:
    return next((problems[0]["code"] for problems in fields.values()), "invalid")


class ErrorBodySerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    details = serializers.DictField()


class ErrorSerializer(serializers.Serializer[Any]):
    """The one shape of all errors. `details.fields` has the problems by field, where a value is wrong."""

    error = ErrorBodySerializer()


class Schema(AutoSchema):
    """Adds the error answers that every endpoint can give to the OpenAPI document."""

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        for code, words in ERROR_ANSWERS.items():
            error = OpenApiResponse(ErrorSerializer, words)
            bodies[code] = self._get_response_for_code(error, code, direction=direction)  # type: ignore[no-untyped-call]
        return bodies

    def get_operation_id(self) -> str:
        """`GET /api/jobs/{id}` -> get_api_jobs_by_id: the parameters tell a list from one of its items."""
        parts = (f"by_{part[1:-1]}" if part.startswith("{") else part for part in self.path.strip("/").split("/"))
        return f"{self.method.lower()}_{'_'.join(parts)}"


class LocalOwnerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """A request of this machine needs nothing; programs elsewhere send a key."""

    target_class = "homelab.owner.LocalOwnerAuthentication"
    name = ["apiKey"]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return [{"type": "http", "scheme": "bearer", "description": "From other machines: an API key."}]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return [{}, {"apiKey": []}]


class SessionSignInScheme(SessionScheme):  # type: ignore[no-untyped-call]
    target_class = "homelab.owner.SessionSignIn"


# Django's own handlers, for what never reaches a DRF view


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer_plainly(request, status=404, code="not_found", message=f"There is nothing at {request.path[:200]}.")


def server_error(request: HttpRequest) -> HttpResponse:
    return answer_plainly(request, status=500, code="internal_error", message=_INTERNAL)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer_plainly(request, status=400, code="bad_request", message="The request could not be understood.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer_plainly(request, status=403, code="permission_denied", message="You may not do this.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    message = f"The form's protection against forgery failed ({reason}) Reload the page and try again."
    return answer_plainly(request, status=403, code="csrf_failed", message=message)


def answer_plainly(request: HttpRequest, *, status: int, code: str, message: str) -> HttpResponse:
    if is_below(request.path, "/v1"):
        return JsonResponse(openai_error_body(code, message, status=status), status=status)
    if request.path.startswith("/api") or "text/html" not in request.headers.get("Accept", ""):
        return JsonResponse(error_body(code, message), status=status)
    return render(request, "homelab/error.html", {"status": status, "message": message}, status=status)
