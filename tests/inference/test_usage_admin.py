"""The records in the admin: a list to look at, and the figures on the page of each model."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.inference.usage import make_model, record, record_load

pytestmark = pytest.mark.django_db
LIST = "/admin/inference/usagerecord/"


@pytest.fixture
def models():
    mine, other = make_model("mine"), make_model("other")
    record(mine, prompt_tokens=1234, completion_tokens=56, first_token_seconds=0.251, tokens_per_second=40.04)
    record(mine, status="error", error_code="engine_failed")
    record(mine, status="left", ago=timedelta(days=40), was_cold=True, first_token_seconds=7.0)
    record_load(other, path="/fast", seconds=3.5, at=timezone.now())
    return mine, other


def rows_of(client, query=""):
    answer = client.get(LIST + query)
    assert answer.status_code == 200
    return answer.content.decode(), answer.context["cl"].result_list


def test_the_list_shows_what_happened_in_units_for_people(admin_client, models):
    content, rows = rows_of(admin_client)
    assert len(rows) == 4
    assert all(
        text in content for text in ("1,234, 56", "0.25 s", "40.0", "3.50 s", "/fast", "engine_failed", "client left")
    )
    assert "7.00 s, with a load" in content


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?kind__exact=load", 1),
        ("?status__exact=error", 1),
        ("?status__exact=left", 1),
        ("?model__id__exact={}", 3),
        ("?q=engine_failed", 1),
        ("?was_cold__exact=1", 2),
    ],
)
def test_the_list_is_filtered_by_model_kind_and_status(admin_client, models, query, expected):
    assert len(rows_of(admin_client, query.format(models[0].pk))[1]) == expected


def test_the_list_is_filtered_by_date(admin_client, models):
    table = admin_client.get(LIST).context["cl"]
    choices = [choice for spec in table.filter_specs for choice in spec.choices(table)]
    week = next(choice["query_string"] for choice in choices if choice["display"] == "Past 7 days")
    assert len(rows_of(admin_client, week)[1]) == 3


def test_the_list_takes_the_same_few_queries_for_any_number(admin_client, models, django_assert_max_num_queries):
    for _ in range(60):
        record(models[0])
    with django_assert_max_num_queries(15):
        rows_of(admin_client)


def test_nobody_edits_a_record(admin_client, models):
    record = models[0].usage.first()
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(f"{LIST}{record.pk}/change/", {"status": "ok"}).status_code == 403
    assert admin_client.post(f"{LIST}{record.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.get(f"{LIST}{record.pk}/change/").status_code == 200


def test_the_page_of_a_model_has_its_figures(admin_client, models):
    content = admin_client.get(f"/admin/registry/modelregistry/{models[0].pk}/change/").content.decode()
    assert "<dt>24 hours</dt><dd>1 request, 1 failed; 1,234 tokens read, 56 written</dd>" in content
    assert "<dd>0.25 s; 95 of 100 within 0.25 s (one request)</dd>" in content
    other = admin_client.get(f"/admin/registry/modelregistry/{models[1].pk}/change/").content.decode()
    assert "<dd>3.50 s from the primary cache (/fast), median of 1</dd>" in other and "not used" in other


def test_a_new_model_has_no_figures_yet(admin_client, caches):
    assert "hl-figures" not in admin_client.get("/admin/registry/modelregistry/add/").content.decode()
