"""Every error that leaves the server has one of two shapes, whoever raised it.

Under `/api`: `{"error": {"code": "snake_case", "message": "a sentence", "details": {...}}}`.
Under `/v1`, as OpenAI's clients read it: `{"error": {"message", "type", "param", "code"}}`.
"""

import importlib
import json
import re
from pathlib import Path

import pytest
from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DatabaseError, OperationalError
from django.http import Http404
from django.test import RequestFactory
from rest_framework import exceptions, serializers
from rest_framework.views import APIView

from cachemgr.errors import ErrandFailed, InsufficientSpace, InvalidCachePath
from cachemgr.space import CacheFigures, Pool, Rules, check_space
from homelab.api import answer_exception
from homelab.errors import Conflict, HomelabError, InvalidValue
from inference.errors import BadRequest
from inference.openai.errors import error_event, error_response
from registry.errors import HubError

PROJECT = Path(__file__).resolve().parent.parent
APPS = ("homelab", "access", "cachemgr", "registry", "inference")
SENTENCE = "The model llama-3-8b needs 14.0 GB, and 2.0 GB are free. Choose another cache."
ERROR_CLASS = re.compile(r"^class \w+\((HomelabError|InvalidValue|NotFound|Conflict)\)", flags=re.MULTILINE)
OPENAI_TYPES = {
    f"{kind}_error" for kind in ["authentication", "permission", "not_found", "rate_limit", "invalid_request", "server"]
}


def import_all_errors() -> None:
    """Most live in an `errors` module; the start and the shell have a few beside their work."""
    for path in (path for app in APPS for path in (PROJECT / app).rglob("*.py")):
        if ERROR_CLASS.search(path.read_text(encoding="utf-8")):
            importlib.import_module(".".join(path.relative_to(PROJECT).with_suffix("").parts))


def all_error_classes() -> list[type[HomelabError]]:
    import_all_errors()
    found, waiting = [HomelabError], [HomelabError]
    while waiting:
        below = waiting.pop().__subclasses__()
        found += below
        waiting += below
    return sorted({each for each in found if each.__module__.startswith(APPS)}, key=lambda each: each.__qualname__)


def a_verdict():
    disk = {"disk_total_bytes": 10**12, "disk_used_bytes": 0, "pools": (Pool(10**12, 0),)}
    books = {"limit_bytes": 10**9, "used_bytes": 9 * 10**8, "reserved_bytes": 0}
    figures = CacheFigures(location="primary", path="/fast", state="ok", **books, **disk)
    return check_space(figures, required_bytes=5 * 10**8, rules=Rules(warning_threshold=0.9, disk_reserve_bytes=0))


def make(kind: type[HomelabError]) -> HomelabError:
    """An error of the class. One with arguments of its own needs a line here."""
    if kind is InsufficientSpace:
        return InsufficientSpace(a_verdict(), actions=[{"action": "free_space", "sentence": "Remove models."}])
    arguments = {
        InvalidValue: {"field": "model_name"},
        InvalidCachePath: {"code": "not_absolute"},
        ErrandFailed: {"code": "drive_error", "is_permanent": True},
        HubError: {"code": "hub_not_found", "is_permanent": True},
        BadRequest: {"param": "messages"},
    }
    return kind(SENTENCE, **arguments.get(kind, {}))


def answer(error: Exception):
    return answer_exception(error, {"request": RequestFactory().get("/api/models")})


def assert_shape(response, *, status: int, code: str) -> dict:
    """The one shape under `/api`; answers with its details."""
    assert response.status_code == status
    body = json.loads(json.dumps(response.data))  # plain JSON, nothing lazy
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"code", "message", "details"}
    assert error["code"] == code
    assert re.fullmatch(r"[a-z][a-z0-9_]*", error["code"])
    assert error["message"].strip() and isinstance(error["details"], dict)
    return error["details"]


ERRORS = pytest.mark.parametrize("kind", all_error_classes(), ids=lambda kind: kind.__name__)


# Our own errors


def test_the_errors_of_every_app_are_known():
    assert {kind.__module__.partition(".")[0] for kind in all_error_classes()} == set(APPS)
    assert len(all_error_classes()) > 20


@ERRORS
def test_each_error_has_a_code_a_status_and_a_reason_to_exist(kind):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", kind.code)
    assert 400 <= kind.status <= 599


def test_no_two_classes_claim_the_same_code():
    claimed = [vars(kind)["code"] for kind in all_error_classes() if "code" in vars(kind)]
    assert sorted(claimed) == sorted(set(claimed))


@ERRORS
def test_each_error_has_the_one_shape_under_api(kind):
    error = make(kind)
    response = answer(error)
    assert_shape(response, status=error.status, code=error.code)
    assert response.data["error"]["message"] == str(error)


@ERRORS
def test_each_error_has_the_shape_of_openai_under_v1(kind):
    error = make(kind)
    response = error_response(error)
    status = 503 if isinstance(error, Conflict) else error.status  # clients would try a 409 again at once
    assert response.status_code == status and response["Content-Type"] == "application/json"
    assert (body := json.loads(response.content)).keys() == {"error"} and body == error_event(error)
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["message"] == str(error) and body["error"]["code"] == error.code
    assert body["error"]["type"] in OPENAI_TYPES


@ERRORS
def test_clients_try_again_only_where_that_can_help(kind):
    error = make(kind)
    passes = isinstance(error, Conflict) or hasattr(error, "retry_after_seconds")
    assert error_response(error)["x-should-retry"] == ("true" if passes else "false")
    assert error_response(error).has_header("Retry-After") == passes


def test_a_time_to_wait_reaches_the_client_under_both_roofs():
    waiting = [make(kind) for kind in all_error_classes() if hasattr(kind, "retry_after_seconds")]
    assert waiting
    for error in waiting:
        assert error_response(error)["Retry-After"] == str(error.retry_after_seconds)
        assert answer(error).headers["Retry-After"] == str(error.retry_after_seconds)


def test_a_wrong_field_is_named_in_both_shapes():
    details = assert_shape(
        answer(InvalidValue(SENTENCE, field="hf_path", code="invalid_repo_id")), status=400, code="invalid_repo_id"
    )
    assert details == {"fields": {"hf_path": [{"code": "invalid_repo_id", "message": SENTENCE}]}}
    assert error_event(BadRequest(SENTENCE, param="messages[0].role"))["error"]["param"] == "messages[0].role"


def test_a_shortage_has_its_numbers_and_ways_out():
    details = assert_shape(answer(make(InsufficientSpace)), status=507, code="insufficient_space")
    sizes = [details[f"{name}_bytes"] for name in ("needed", "available", "shortfall")]
    assert sizes == [5 * 10**8, 10**8, 4 * 10**8]
    assert details["limiting_factor"] == "limit" and details["actions"][0]["sentence"]


# DRF's and Django's errors


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (exceptions.NotFound(), 404, "not_found"),
        (exceptions.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (exceptions.NotAuthenticated(), 401, "not_authenticated"),
        (exceptions.AuthenticationFailed(), 401, "authentication_failed"),
        (exceptions.PermissionDenied(), 403, "permission_denied"),
        (exceptions.ParseError(), 400, "parse_error"),
        (exceptions.NotAcceptable(), 406, "not_acceptable"),
        (exceptions.UnsupportedMediaType("text/html"), 415, "unsupported_media_type"),
        (exceptions.Throttled(wait=7), 429, "throttled"),
        (Http404("There is no such model."), 404, "not_found"),
        (Http404(), 404, "not_found"),
        (PermissionDenied(), 403, "permission_denied"),
        (DjangoValidationError("It is too long.", code="too_long"), 400, "too_long"),
        (DjangoValidationError({"model_name": ["It is taken."]}), 400, "invalid"),
        (exceptions.ValidationError("It is wrong."), 400, "invalid"),
        (exceptions.ValidationError({"model_name": "It is taken."}, code="unique"), 400, "unique"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_the_frameworks_errors_have_the_one_shape(error, status, code):
    assert_shape(answer(error), status=status, code=code)


def test_a_time_to_wait_is_a_header():
    assert answer(exceptions.Throttled(wait=7)).headers["Retry-After"] == "7"


def test_a_nested_error_names_the_whole_way_to_the_field():
    error = exceptions.ValidationError({"place": {"cache_path": [exceptions.ErrorDetail("It is empty.", "empty")]}})
    details = assert_shape(answer(error), status=400, code="empty")
    assert details["fields"] == {"place.cache_path": [{"code": "empty", "message": "It is empty."}]}


class Row(serializers.Serializer):
    size = serializers.IntegerField()


class Table(serializers.Serializer):
    rows = Row(many=True)
    names = serializers.ListField(child=serializers.CharField(max_length=3), required=False)


def errors_of(serializer: serializers.BaseSerializer) -> exceptions.ValidationError:
    with pytest.raises(exceptions.ValidationError) as caught:
        serializer.is_valid(raise_exception=True)
    return caught.value


def test_an_error_in_a_list_of_objects_names_its_place():
    error = errors_of(Table(data={"rows": [{"size": 1}, {"size": "x"}]}))
    details = assert_shape(answer(error), status=400, code="invalid")
    assert list(details["fields"]) == ["rows.1.size"]


def test_an_error_in_a_list_of_values_names_its_place():
    error = errors_of(Table(data={"rows": [], "names": ["abc", "abcd"]}))
    details = assert_shape(answer(error), status=400, code="max_length")
    assert list(details["fields"]) == ["names.1"]


def test_an_error_in_a_list_at_the_top_has_the_one_shape_too():
    assert_shape(answer(errors_of(Row(data=[{"size": "x"}], many=True))), status=400, code="invalid")


def test_a_message_says_each_field_once():
    error = exceptions.ValidationError({"model_name": ["It is taken."], "hf_path": ["hf_path is no repo."]})
    assert answer(error).data["error"]["message"] == "model_name: It is taken. hf_path is no repo."


# What nobody expected


def test_an_unexpected_error_tells_nothing_of_the_inside(caplog):
    response = answer(ZeroDivisionError("secret-value in /srv/inside.py"))
    assert_shape(response, status=500, code="internal_error")
    text = json.dumps(response.data)
    assert not [word for word in ("secret-value", "Traceback", "ZeroDivision", ".py") if word in text]
    assert "secret-value" in caplog.text


@pytest.mark.parametrize("error", [DatabaseError("disk I/O error"), OperationalError("database is locked")])
def test_a_database_that_fails_is_503_with_a_time_to_wait(error, caplog):
    response = answer(error)
    assert_shape(response, status=503, code="database_unavailable")
    assert response.headers["Retry-After"] == "5"
    assert str(error) not in json.dumps(response.data) and str(error) in caplog.text


# Through a real view


class Broken(APIView):
    authentication_classes = permission_classes = ()

    def post(self, request):
        return request.data["no such key"]


def test_a_view_that_breaks_answers_in_the_one_shape(caplog):
    request = RequestFactory().post("/api/models", "{}", content_type="application/json")
    assert_shape(Broken.as_view()(request), status=500, code="internal_error")
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status", "code"),
    [
        ("post", "/api/models", "{", "application/json", 400, "parse_error"),
        ("post", "/api/models", "[]", "application/json", 400, "parse_error"),
        ("post", "/api/models", "a=b", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("post", "/api/models", "{}", "application/json", 400, "required"),
        ("delete", "/api/cache/stats", "", "application/json", 405, "method_not_allowed"),
        ("get", "/api/models/nobody", "", "application/json", 404, "model_not_found"),
        ("get", "/api/jobs/99999", "", "application/json", 404, "job_not_found"),
    ],
)
def test_what_the_api_refuses_has_the_one_shape(api, method, path, body, kind, status, code):
    assert_shape(api.generic(method.upper(), path, body, content_type=kind), status=status, code=code)


def test_a_url_that_is_not_there_has_the_shape_of_its_roof(client):
    under_api = client.get("/api/nothing", headers={"Accept": "text/html"})
    assert under_api.status_code == 404
    assert under_api.json()["error"].keys() == {"code", "message", "details"}
    assert client.get("/v1").json()["error"].keys() == {"message", "type", "param", "code"}


def test_who_is_not_signed_in_is_told_where_to_sign_in(client, db):
    """A 401 without WWW-Authenticate is no HTTP: clients would not know what to ask for."""
    response = client.get("/api/models")
    assert_shape(response, status=401, code="not_authenticated")
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")
    assert "/login" in response.headers["WWW-Authenticate"]
