"""Nonsense, by query and by JSON, on every request that takes a size or a place: 400, a code, and a sentence."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from cachemgr.models import Cache, Reservation
from registry.models import ModelRegistry

pytestmark = pytest.mark.django_db
CHECK, RECOMMEND, HISTORY = "/api/cache/check", "/api/cache/recommend", "/api/cache/history"
EVENTS, ADOPT, REGISTER = "/api/cache/events", "/api/cache/adopt", "/api/models"
QUESTION = {"cache_location": "primary", "required_space_mb": 5000}
WISH = {"model_name": "m", "hf_path": "org/m", "cache_location": "primary", "estimated_size_mb": 5}


def problems_of(answer: Any) -> Any:
    """The problems by field of a proper refusal."""
    assert answer.status_code == 400, answer.content
    assert len(answer.content) < 700
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "details"}
    assert len(error["message"].split()) > 2
    fields = error["details"].get("fields", {})
    if fields:
        assert error["code"] == next(iter(fields.values()))[0]["code"]
    return {name: problems[0]["code"] for name, problems in fields.items()}


NUMBERS_IN_QUERIES = pytest.mark.parametrize(
    ("number", "code"),
    [
        ("nan", "not_a_number"), ("inf", "not_a_number"), ("-inf", "not_a_number"), ("-1", "not_positive"),
        ("0", "not_positive"), ("0.0000001", "not_a_number"), ("1e400", "not_a_number"), ("true", "not_a_number"),
        ("1_0", "not_a_number"), ("1" + "0" * 400, "not_a_number"), ("", "not_a_number"), (" 5", "not_a_number"),
        ("٣", "not_a_number"), ("5,0", "not_a_number"), ("0x10", "not_a_number"), ("1000000001", "too_large"),
        ("-" + "9" * 400, "not_a_number"), ("\0", "not_a_number"),
    ],
)  # fmt: skip

NUMBERS_IN_JSON = pytest.mark.parametrize(
    ("literal", "code"),
    [
        ('"nan"', "not_a_number"), ("-1", "not_positive"), ("-0.5", "not_positive"), ("0", "not_positive"),
        ("1e-9", "not_positive"), ("1e400", "not_a_number"), ("-1e400", "not_a_number"), ("true", "not_a_number"),
        ("false", "not_a_number"), ('"1_0"', "not_a_number"), ("1" + "0" * 400, "too_large"),
        ("-1" + "0" * 400, "not_positive"), ('""', "not_a_number"), ("[]", "not_a_number"), ("{}", "not_a_number"),
        ('"1e3"', "not_a_number"), ("1e15", "too_large"), ('"inf"', "not_a_number"), ("0.0", "not_positive"),
        ("-1.7976931348623157e308", "not_positive"), ("1.7976931348623157e308", "too_large"), ("5e-324", "not_positive"),
    ],
)  # fmt: skip


@NUMBERS_IN_QUERIES
def test_a_bad_number_in_a_query_is_refused(api, caches, number: str, code: str) -> None:
    answer = api.post(f"{CHECK}?{urlencode({'cache_location': 'primary', 'required_space_mb': number})}")
    assert problems_of(answer) == {"required_space_mb": code}
    assert problems_of(api.get(RECOMMEND, {"estimated_size_mb": number})) == {"estimated_size_mb": code}


@NUMBERS_IN_JSON
def test_a_bad_number_in_json_is_refused(api, caches, literal: str, code: str) -> None:
    body = f'{{"cache_location": "primary", "required_space_mb": {literal}}}'
    answer = api.post(CHECK, body, content_type="application/json")
    assert problems_of(answer) == {"required_space_mb": code}


@NUMBERS_IN_JSON
def test_a_model_of_a_bad_size_is_not_registered(api, caches, literal: str, code: str) -> None:
    body = json.dumps(WISH).replace('"estimated_size_mb": 5', f'"estimated_size_mb": {literal}')
    answer = api.post(REGISTER, body, content_type="application/json")
    assert problems_of(answer) == {"estimated_size_mb": code}
    assert not ModelRegistry.objects.exists() and not Reservation.objects.exists()


def test_a_size_must_be_said_where_it_is_the_question(api, caches) -> None:
    body = json.dumps(QUESTION | {"required_space_mb": None})
    assert problems_of(api.post(CHECK, body, content_type="application/json")) == {"required_space_mb": "null"}
    assert problems_of(api.get(RECOMMEND)) == {"estimated_size_mb": "required"}
    assert problems_of(api.post(CHECK)) == {"cache_location": "required", "required_space_mb": "required"}


PLACES = pytest.mark.parametrize(
    ("place", "field", "code"),
    [
        ({"cache_location": "tertiary"}, "cache_location", "invalid_choice"),
        ({"cache_location": ""}, "cache_location", "invalid_choice"),
        ({"cache_location": "Primary"}, "cache_location", "invalid_choice"),
        ({"cache_location": ["primary"]}, "cache_location", "invalid_choice"),
        ({"cache_location": {"a": 1}}, "cache_location", "invalid_choice"),
        ({"cache_location": True}, "cache_location", "invalid_choice"),
        ({"cache_location": "custom"}, "cache_path", "required"),
        ({"cache_location": "custom", "cache_path": ""}, "cache_path", "required"),
        ({"cache_location": "custom", "cache_path": None}, "cache_path", "required"),
        ({"cache_location": "custom", "cache_path": "/etc"}, "cache_path", "outside_allowed_roots"),
        ({"cache_location": "custom", "cache_path": "models"}, "cache_path", "not_absolute"),
        ({"cache_location": "custom", "cache_path": True}, "cache_path", "invalid"),
        ({"cache_location": "custom", "cache_path": ["/x"]}, "cache_path", "invalid"),
        ({"cache_location": "custom", "cache_path": "/tmp/\ud800"}, "cache_path", "surrogate_characters_not_allowed"),
        ({"cache_location": "custom", "cache_path": "/tmp/\0"}, "cache_path", "null_characters_not_allowed"),
        ({"cache_location": "primary", "cache_path": "/tmp/x"}, "cache_path", "path_without_custom"),
        ({"cache_location": "secondary", "cache_path": "/tmp/x"}, "cache_path", "path_without_custom"),
    ],
)  # fmt: skip


@PLACES
def test_a_bad_place_is_refused(api, caches, place: dict[str, Any], field: str, code: str) -> None:
    for url, question in ((CHECK, QUESTION), (ADOPT, {}), (REGISTER, WISH)):
        answer = api.post(url, json.dumps(question | place), content_type="application/json")
        assert problems_of(answer) == {field: code}, url
    assert Cache.objects.count() == 2 and not ModelRegistry.objects.exists()


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ({"cache": "tertiary"}, "cache", "invalid_choice"),
        ({"cache": ""}, "cache", "invalid_choice"),
        ({"cache": "custom"}, "cache_path", "required"),
        ({"cache": "custom", "cache_path": "/etc"}, "cache_path", "outside_allowed_roots"),
        ({"cache": "custom", "cache_path": "x"}, "cache_path", "not_absolute"),
        ({"cache": "primary", "cache_path": "/tmp/x"}, "cache_path", "path_without_custom"),
        ({"cache_path": "/tmp/x"}, "cache_path", "path_without_custom"),
    ],
)
def test_a_history_of_a_bad_place_is_refused(api, caches, query: dict[str, str], field: str, code: str) -> None:
    assert problems_of(api.get(HISTORY, query)) == {field: code}


@pytest.mark.parametrize(
    "since", ["yesterday", "", "nan", "-1", "0d", "7", "7m", "1e400d", "1_0d", "٣d", "1" + "0" * 400, "2026-13-01",
              "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "\0"],
)  # fmt: skip
@pytest.mark.parametrize("url", [HISTORY, EVENTS])
def test_a_bad_moment_is_refused(api, caches, url: str, since: str) -> None:
    answer = api.get(url, {"since": since})
    assert problems_of(answer) == {"since": "not_a_moment"}
    assert "24h, 7d" in answer.json()["error"]["message"]


@pytest.mark.parametrize("url", [CHECK, ADOPT])
@pytest.mark.parametrize(
    "body",
    ["NaN", '{"required_space_mb": NaN}', '{"a": Infinity}', "[1]", "7", '"x"', "{", "9" * 5000],
    ids=["NaN", "NaN inside", "Infinity", "list", "number", "text", "half", "huge number"],
)
def test_a_body_that_is_no_json_object_is_refused(api, caches, url: str, body: str) -> None:
    assert problems_of(api.post(url, body, content_type="application/json")) == {}


def test_a_form_is_not_taken(api, caches) -> None:
    answer = api.post(CHECK, "cache_location=primary", content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 415 and answer.json()["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize("word", [1.5, "perhaps", [], {}, None])
def test_a_permission_is_yes_or_no(api, caches, word: Any) -> None:
    answer = api.post(ADOPT, json.dumps({"cache_location": "primary", "create": word}), content_type="application/json")
    assert set(problems_of(answer)) == {"create"}
