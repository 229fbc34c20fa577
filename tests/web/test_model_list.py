"""The list of models: its columns, order and filters, the first visit, and the same few queries for any number."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cachemgr.monitor import measure_caches
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, make_cached_repo
from tests.inference.usage import make_model, record, record_load

pytestmark = pytest.mark.django_db
LIST = "/admin/registry/modelregistry/"
ADD = f"{LIST}add/"


def page_of(browser: Client, query: str = "") -> str:
    answer = browser.get(LIST + query)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def names_of(browser: Client, query: str = "") -> list[str]:
    return [model.model_name for model in browser.get(LIST + query).context["cl"].result_list]


def column(browser: Client, name: str) -> int:
    """Its number in `?o=`."""
    return browser.get(LIST).context["cl"].list_display.index(name)


def test_a_row_has_state_drive_size_memory_last_use_and_uses(browser, caches) -> None:
    model = make_model("m")
    moment = timezone.now() - timedelta(hours=2)
    ModelRegistry.objects.update(model_size_mb=14_000, last_used_at=moment, pinned=True)
    for ago in (timedelta(minutes=1), timedelta(days=29), timedelta(days=31)):
        record(model, ago=ago)
    record(model, status="error")
    record_load(model, path="/fast", seconds=1, at=timezone.now())
    page = page_of(browser)
    for text in (
        "org/m",
        "primary",
        "14.0 GB",
        'hl-presence" data-model="m"',
        "2 h 0 min ago",
        'title="pinned"',
        "ready",
    ):
        assert text in page, text
    assert browser.get(LIST).context["cl"].result_list[0].recent_uses == 2


def test_the_bar_of_open_work_stands_beside_the_state(browser, caches) -> None:
    model = make_model("m")
    Job.objects.create(kind="verify", model=model, state="done")
    assert "data-job=" not in page_of(browser)
    job = Job.objects.create(kind="move", model=model, bytes_total=10)
    assert f'data-job="{job.pk}" data-open="true"' in page_of(browser)


def test_it_is_sorted_by_uses_too(browser, caches) -> None:
    for name, uses in (("rare", 1), ("never", 0), ("often", 3)):
        model = make_model(name)
        for _ in range(uses):
            record(model)
    by_uses = column(browser, "uses")
    assert names_of(browser, f"?o=-{by_uses}") == ["often", "rare", "never"]
    assert names_of(browser, f"?o={by_uses}") == ["never", "rare", "often"]
    for name in ("hf_path", "location", "size", "state", "last_used", "pin"):
        assert len(names_of(browser, f"?o={column(browser, name)}")) == 3


def test_it_is_searched_and_filtered(browser, caches) -> None:
    for name, values in {
        "a": {"pinned": True},
        "b": {"cache_location": "secondary"},
        "c": {"status": "failed"},
    }.items():
        make_model(name)
        ModelRegistry.objects.filter(model_name=name).update(**values)
    assert names_of(browser, "?q=org/b") == ["b"]
    assert names_of(browser, "?pinned__exact=1") == ["a"]
    assert names_of(browser, "?cache_location__exact=secondary") == ["b"]
    assert names_of(browser, "?status__exact=failed") == ["c"]


def test_the_list_takes_the_same_queries_for_3_and_for_30(browser, caches) -> None:
    def count_queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            page_of(browser)
        return len(queries)

    def fill(numbers: range) -> None:
        for number in numbers:
            model = make_model(f"m{number}")
            record(model)
            Job.objects.create(kind="verify", model=model)

    fill(range(3))
    few = count_queries()
    fill(range(3, 30))
    assert count_queries() == few <= 20


# The first visit


def test_an_empty_install_leads_by_the_hand(browser, caches) -> None:
    page = page_of(browser)
    assert "Welcome" in page and "It is looked at just now" in page and 'hx-trigger="load delay:2s"' in page
    measure_caches()
    page = page_of(browser)
    assert caches.primary.path in page and caches.secondary.path in page and "left for models" in page
    assert "No models in them yet" in page and f'href="{ADD}"' in page and "load delay" not in page


def test_repos_that_cannot_be_served_are_named(browser, caches) -> None:
    make_cached_repo(Path(caches.primary.path), "org/gguf", files={"model.gguf": b"x"})
    measure_caches()
    assert "1 repo found, none that can be served" in page_of(browser)


def test_models_that_were_found_are_said_until_something_is_done(browser, caches) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(weights=2_000_000))
    measure_caches()
    page = page_of(browser)
    assert "1 model found in your caches, 2.0 MB." in page and "nothing was moved" in page and "org/m" in page
    ModelRegistry.objects.update(last_used_at=timezone.now())
    assert "found in your caches" not in page_of(browser)


def test_an_account_that_may_only_look_is_not_led_to_what_it_may_not_do(client, django_user_model, caches) -> None:
    from django.contrib.auth.models import Permission

    guest = django_user_model.objects.create_user("guest", is_staff=True)
    client.force_login(guest)
    assert client.get(LIST).status_code == 403
    guest.user_permissions.add(Permission.objects.get(codename="view_modelregistry"))
    page = page_of(client)
    assert "Ask the owner of this server" in page and "Register your first model" not in page


def test_a_search_that_finds_nothing_is_no_first_visit(browser, caches) -> None:
    make_model("m")
    assert "Welcome" not in page_of(browser, "?q=nobody")
