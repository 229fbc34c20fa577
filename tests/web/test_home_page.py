"""Home: what wants attention, with the way to where it is solved; a first visit; and few queries for any number of rows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cachemgr.models import Cache
from cachemgr.monitor import measure_caches
from inference.models import UsageRecord
from registry.models import Job, ModelRegistry
from tests.web.measuring import GB, measured

pytestmark = pytest.mark.django_db


def page_of(browser: Client, path: str = "/") -> str:
    answer = browser.get(path)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def add_model(name: str, **values: Any) -> ModelRegistry:
    return ModelRegistry.objects.create(model_name=name, hf_path=f"a/{name}", **{"status": "ready", **values})


def add_request(**values: Any) -> UsageRecord:
    usual = {"kind": "request", "model_name": "x", "started_at": timezone.now(), "duration_seconds": 1, "status": "ok"}
    return UsageRecord.objects.create(**usual | values)


@pytest.fixture
def well(caches) -> None:
    """Both drives are fine, a model is ready, and somebody asked it something."""
    for cache in (caches.primary, caches.secondary):
        measured(cache, used_bytes=GB // 4, model_count=1)
    add_model("x")
    add_request(prompt_tokens=1000, completion_tokens=50)


# All is well


def test_the_state_of_the_box_is_on_one_page(browser, caches, well) -> None:
    page = page_of(browser)
    for words in (
        "All is well", "Primary (Fast SSD)", "250 MB of 1.0 GB, 1 model", "disk: 60.0 GB free", "Processor", "Memory",
        "Nothing is downloaded, moved or checked.", "1,000 tokens read, 50 written", "none failed",
        "this one has none",
    ):  # fmt: skip
        assert words in page, words
    assert "Welcome" not in page and "first model" not in page


def test_open_work_is_shown_with_how_far_it_is(browser, caches, well) -> None:
    values = {"state": "running", "stage": "copying", "bytes_done": GB, "bytes_total": 4 * GB, "rate": 10**8}
    Job.objects.create(kind="move", model=ModelRegistry.objects.get(), **values)
    for number in range(9):
        Job.objects.create(kind="download", model=add_model(f"m{number}"))
    page = page_of(browser)
    assert "Move <strong>x</strong>" in page and "copying: 1.0 GB of 4.0 GB, 100 MB/s, 30 s left" in page
    assert "waits for its turn" in page and "And 4 more." in page


def test_the_last_hour_is_counted_by_five_minutes(browser, caches, well) -> None:
    now = timezone.now()
    for minutes, status in ((20, "ok"), (20, "error"), (20, "left"), (130, "ok")):
        add_request(started_at=now - timedelta(minutes=minutes), status=status)
    add_request(kind="load")
    begin = now - timedelta(minutes=20)
    page = page_of(browser)
    assert "<strong>4</strong>" in page and "1 failed" in page
    assert f"{begin:%H}:{begin.minute // 5 * 5:02}: 3 requests, 1 failed" in page


# What wants attention


def gone(caches) -> None:
    measured(caches.primary, state="unmounted", message="Mount the drive.", model_count=3)
    add_model("on-it", status="missing", cache_location="primary", error="Its drive is away.")


def full(caches) -> None:
    measured(caches.secondary, used_bytes=11 * GB)


def without_room(caches) -> None:
    measured(caches.primary, used_bytes=10, disk_free_bytes=0, device=8)


def odd(caches) -> None:
    Cache.objects.filter(pk=caches.primary.pk).update(scan_problems=["models--a--b cannot be read.", "another"])


def failed_model(caches) -> None:
    add_model("bad", status="failed", error="No engine can load it.")


def missing_model(caches) -> None:
    add_model("lost", status="missing", error="Nothing of it lies there.")


def damaged(caches) -> None:
    add_model("rotten", status="failed", damaged=[{"file": "a"}, {"file": "b"}])


def failed_job(caches) -> None:
    values = {"state": "failed", "error_message": "The hub said no.", "finished_at": timezone.now()}
    Job.objects.create(kind="download", model=ModelRegistry.objects.get(model_name="x"), **values)


@pytest.mark.parametrize(
    ("happens", "title", "words", "where"),
    [
        (gone, "Primary (Fast SSD): not mounted", "Mount the drive.", "/settings#cache-"),
        (full, "Secondary (Slower Drive): over its limit", "11.0 GB of 10.0 GB are used", "/settings#cache-"),
        (without_room, "Primary (Fast SSD): no room", "0 B can still be booked", "/settings#cache-"),
        (odd, "Primary (Fast SSD): something is odd", "models--a--b cannot be read. There are 1 more.", "/settings#"),
        (failed_model, "bad does not work", "No engine can load it.", "/admin/registry/modelregistry/"),
        (missing_model, "lost: its files are not there", "Nothing of it lies there.", "/admin/registry/modelregistry/"),
        (damaged, "rotten: 2 files are bad", "Repair fetches what is bad", "/admin/registry/modelregistry/"),
        (failed_job, "The download of x failed", "The hub said no.", "/jobs?state=failed"),
    ],
)
def test_what_wants_attention_is_said_once_with_the_way_to_where_it_is_solved(
    browser, caches, well, happens: Callable[..., None], title: str, words: str, where: str
) -> None:
    happens(caches)
    page = page_of(browser)
    assert "1 thing to look at" in page and "All is well" not in page
    assert f"<strong>{title}</strong>" in page and words in page and f'href="{where}' in page


def test_a_failed_job_is_no_news_once_something_newer_was_done_or_a_week_later(browser, caches, well) -> None:
    failed_job(caches)
    Job.objects.create(kind="download", model=ModelRegistry.objects.get(), state="done")
    assert "All is well" in page_of(browser)
    Job.objects.all().delete()
    failed_job(caches)
    Job.objects.update(finished_at=timezone.now() - timedelta(days=8))
    assert "All is well" in page_of(browser)


def test_of_many_things_the_gravest_are_shown_and_the_others_counted(browser, caches, well) -> None:
    odd(caches)
    for number in range(20):
        add_model(f"bad-{number:02}", status="failed", error="x" * 5000)
    page = page_of(browser)
    assert "21 things to look at" in page and "And 13 more." in page
    assert "bad-07 does not work" in page and "bad-08" not in page and "something is odd" not in page
    assert "x" * 241 not in page


# A first visit


def test_an_empty_install_leads_to_the_first_model(browser, caches) -> None:
    measure_caches()
    page = page_of(browser)
    for words in ("Welcome", str(caches.primary.path), "No models lie there yet; there is room for", "No models yet"):
        assert words in page, words
    assert 'href="/admin/registry/modelregistry/add/"' in page and "Register the first model" in page
    assert "Nobody asked a model anything." in page and "All is well" in page


def test_models_that_were_found_are_named(browser, caches) -> None:
    measured(caches.primary, used_bytes=GB // 2, model_count=8)
    for number in range(8):
        add_model(f"found-{number}")
    page = page_of(browser)
    assert "Your models are here" in page and "8 models and 500 MB lie there." in page
    assert "found-5 and 2 more. They stay where they are" in page and "See your models" in page


def test_caches_that_nobody_has_measured_or_found_say_what_to_do(browser, caches) -> None:
    assert page_of(browser).count("It is looked at within a minute of the start.") == 2
    measured(caches.secondary, state="missing", message="There is no folder. Create it.", figures_at=None)
    page = page_of(browser)
    assert page.count("There is no folder. Create it.") == 2, "in the first step, and in what wants attention"
    assert "Set PRIMARY_CACHE_PATH and SECONDARY_CACHE_PATH" in page


@pytest.mark.parametrize("what", ["request", "job", "model", "trouble"])
def test_it_welcomes_nobody_who_has_used_it(browser, caches, what: str) -> None:
    measure_caches()
    if what == "model":
        add_model("wanted", status="registered")
    elif what == "trouble":
        add_model("found", status="missing", error="Its drive is away.")
    elif what == "job":
        Job.objects.create(kind="download", model=None, model_name="x", hf_path="a/x", state="done")
    else:
        add_request(started_at=timezone.now() - timedelta(days=90))
    assert "hl-welcome" not in page_of(browser)


# Few queries, and the part that follows


def fill(caches, *, count: int) -> None:
    for number in range(count):
        model = add_model(f"f-{count}-{number}", status="failed")
        Job.objects.create(kind="move", model=model, state="failed", finished_at=timezone.now())
        Job.objects.create(kind="verify", model=add_model(f"o-{count}-{number}"))
        measured(caches.primary, slot=number)
        add_request(model=model)


@pytest.mark.parametrize("path", ["/", "/home/live"])
def test_it_takes_the_same_few_queries_for_any_number_of_rows(
    browser, caches, django_assert_max_num_queries, path: str
) -> None:
    fill(caches, count=10)
    with CaptureQueriesContext(connection) as queries:
        browser.get(path)
    assert len(queries) <= 16
    fill(caches, count=40)
    with django_assert_max_num_queries(len(queries)):
        browser.get(path)


def test_an_open_page_is_sent_what_changed_and_nothing_else(browser, caches, well, settings) -> None:
    def stamp_of(page: str) -> str:
        return page.partition('name="seen" value="')[2].partition('"')[0]

    for _ in range(20):  # the machine's own figures change now and then
        page = page_of(browser, "/home/live")
        if browser.get("/home/live", {"seen": stamp_of(page)}).status_code == 204:
            break
    else:
        raise AssertionError("It was never unchanged.")
    assert "<html" not in page
    add_model("bad", status="failed")
    assert browser.get("/home/live", {"seen": stamp_of(page)}).status_code == 200


@pytest.mark.parametrize(("name", "words"), [("x", "Engines run in the web process only"), ("y", "no model named")])
def test_a_button_that_cannot_do_its_work_says_why(browser, caches, well, name: str, words: str) -> None:
    assert words in browser.post("/", {"model": name}, follow=True).content.decode()
    part = browser.post("/", {"model": name}, headers={"HX-Request": "true"}).content.decode()
    assert words in part and "hl-said-trouble" in part and "<html" not in part
