"""The Chat page, without its script: the models that it offers, and what it tells its script."""

import json
import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from registry.models import ModelRegistry
from web.chat_choices import make_choice

pytestmark = pytest.mark.django_db


def facts_of(browser: Client) -> dict:
    page = browser.get("/chat").content.decode()
    return json.loads(re.search(r'<script id="chat-facts" type="application/json">(.*?)</script>', page)[1])


def model(**values) -> ModelRegistry:
    return ModelRegistry(**{"pk": 1, "model_name": "m", "hf_path": "org/m"} | values)


@pytest.mark.parametrize(
    ("values", "why_not"),
    [
        ({"status": "ready"}, ""),
        ({"status": "moving"}, ""),
        ({"status": "registered"}, "Not downloaded yet."),
        ({"status": "registered", "downloads_on_request": True}, ""),
        ({"status": "downloading"}, "It is being downloaded."),
        ({"status": "missing"}, "Its files are not there now."),
        ({"status": "failed", "error": "The Hub refused it."}, "The Hub refused it."),
        ({"status": "failed", "downloads_on_request": True}, "It failed."),
    ],
)
def test_a_model_that_cannot_be_chosen_says_why(values: dict, why_not: str) -> None:
    assert make_choice(model(**values)).why_not == why_not


def test_it_leads_to_where_something_can_be_done_about_it() -> None:
    assert make_choice(model(status="downloading")).page == "/jobs?model=m"
    assert make_choice(model(status="failed")).page == "/admin/registry/modelregistry/1/change/"
    assert (
        make_choice(model(status="registered", downloads_on_request=True)).note == "Downloaded first, when you ask it."
    )


def test_the_page_tells_its_script_of_the_models_and_that_a_key_is_needed_elsewhere(browser) -> None:
    for name, status in (("ready-one", "ready"), ("other", "registered")):
        ModelRegistry.objects.create(model_name=name, hf_path=f"org/{name}", status=status)
    facts = facts_of(browser)
    assert {each["name"]: each["why_not"] for each in facts["models"]} == {
        "ready-one": "",
        "other": "Not downloaded yet.",
    }
    assert facts["needsKey"] is True
    assert browser.get("/chat?part=models").json() == facts["models"]


def test_texts_in_a_row_are_no_markup_on_the_page(browser) -> None:
    ModelRegistry.objects.create(model_name="m", hf_path="org/m", status="failed", error="</script><script>alert(1)")
    assert "<script>alert" not in browser.get("/chat").content.decode()
    assert facts_of(browser)["models"][0]["why_not"] == "</script><script>alert(1)"


def test_it_takes_the_same_few_queries_for_any_number_of_models(browser, django_assert_num_queries) -> None:
    browser.get("/chat")
    with CaptureQueriesContext(connection) as queries:
        browser.get("/chat")
    for number in range(30):
        ModelRegistry.objects.create(model_name=f"m{number}", hf_path="org/m", status="ready")
    with django_assert_num_queries(len(queries)):
        browser.get("/chat")
    assert len(queries) <= 4, [each["sql"] for each in queries]


def test_the_limits_of_its_fields_are_those_of_the_api(browser) -> None:
    page = " ".join(browser.get("/chat").content.decode().split())
    assert 'name="temperature" min="0" max="2" step="any"' in page
    assert 'name="top_p" min="0" max="1"' in page and 'name="top_k" min="-1" max="1000000"' in page
    assert 'name="seed" min="-9007199254740991" max="9007199254740991"' in page


def test_it_is_for_who_may_use_the_admin(client) -> None:
    assert client.get("/chat").status_code == 302
