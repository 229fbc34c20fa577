"""A model's page: what is known of it, its pictures, and the files of its drive when they are asked for."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cachemgr.models import CachedRepo
from cachemgr.monitor import measure_caches
from inference.daily import days_of
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, make_cached_repo
from tests.inference.usage import make_model, record, record_load
from web.model_page import read_page

pytestmark = pytest.mark.django_db
PAGE = "/admin/registry/modelregistry/{}/change/"


@pytest.fixture
def model(caches) -> ModelRegistry:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(weights=2_000_000))
    measure_caches()
    return ModelRegistry.objects.get()


def page_of(browser: Client, model: ModelRegistry) -> str:
    answer = browser.get(PAGE.format(model.pk))
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_the_header_says_what_it_is_where_it_lives_and_what_can_be_done(browser, model, caches) -> None:
    page = page_of(browser, model)
    for text in ("org/m", caches.primary.path, "2.0 MB", "512 tokens", 'hl-presence" data-model="m"', ">never<"):
        assert text in page, text
    for name in ("load", "unload", "move", "verify", "repair", "pin", "remove"):
        assert f"/admin/registry/modelregistry/act/{name}/?model={model.pk}" in page, name


def test_files_and_revisions_are_what_the_scan_recorded(browser, model, caches, make_cached_repo) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(weights=100), commit="b" * 40, refs={})
    measure_caches()
    page = page_of(browser, model)
    assert page.index(f'title="{"a" * 40}"') < page.index("served") < page.index(f'title="{"b" * 40}"')
    assert "Show the files" in page and "config.json" not in page


def test_the_files_come_from_the_drive_when_they_are_asked_for(browser, model, caches) -> None:
    files = f"/admin/registry/modelregistry/{model.pk}/files/"
    answer = browser.get(files).content.decode()
    assert answer.index("model.safetensors") < answer.index("config.json") and "2.0 MB" in answer
    Path(caches.primary.path).rename(f"{caches.primary.path}-away")
    assert "Is the drive plugged in?" in browser.get(files).content.decode()
    assert browser.get("/admin/registry/modelregistry/999/files/").status_code == 404


def test_no_drive_is_asked_for_the_page(browser, model, caches) -> None:
    Path(caches.primary.path).rename(f"{caches.primary.path}-away")
    assert "2.0 MB" in page_of(browser, model)


def test_who_may_not_look_sees_no_page_and_no_files(client, django_user_model, model) -> None:
    client.force_login(django_user_model.objects.create_user("guest", is_staff=True))
    assert client.get(PAGE.format(model.pk)).status_code == 403
    assert client.get(f"/admin/registry/modelregistry/{model.pk}/files/").status_code == 403


def test_a_page_that_is_gone_leads_back(browser, model) -> None:
    answer = browser.get(PAGE.format(999), follow=True)
    assert answer.status_code in {200, 404}


def test_the_days_count_requests_and_tokens_and_are_drawn(browser, model) -> None:
    for ago in (timedelta(0), timedelta(0), timedelta(days=3), timedelta(days=40)):
        record(model, ago=ago, prompt_tokens=100, completion_tokens=10)
    record(model, status="error", ago=timedelta(days=3))
    record_load(model, path="/fast", seconds=1, at=timezone.now())
    days = days_of(model)
    assert len(days) == 30 and days[-1].date == timezone.now().date()
    assert [(day.uses, day.errors, day.prompt_tokens) for day in days if day.uses] == [(1, 1, 100), (2, 0, 200)]
    page = page_of(browser, model)
    assert "3 answered, 1 failed in 30 days." in page and "300 tokens read, 30 written in 30 days." in page
    assert page.count("<svg") == 2 and 'role="img"' in page


def test_a_model_that_was_never_used_says_so(browser, model) -> None:
    page = page_of(browser, model)
    assert "No request in 30 days" in page and "It was never loaded yet" in page and "<svg" not in page


def test_load_times_stand_by_drive(browser, model) -> None:
    for seconds in (10, 12, 14):
        record_load(
            model, path="/slow", seconds=seconds, at=timezone.now() - timedelta(hours=1), cache_location="secondary"
        )
    record_load(model, path="/fast", seconds=3, at=timezone.now())
    fast, slow = read_page(model).loads
    assert (fast.path, fast.words, fast.width) == ("/fast", "3.0 s (1 load)", 25.0)
    assert (slow.path, slow.words, slow.width) == ("/slow", "12 s (median of 3 loads)", 100.0)
    assert "/slow" in page_of(browser, model)


def test_bad_files_and_open_work_are_in_sight(browser, model) -> None:
    bad = [{"name": "model.safetensors", "reason": "wrong_hash"}]
    ModelRegistry.objects.update(status="failed", error="1 of its files is bad.", damaged=bad)
    job = Job.objects.create(kind="repair", model=model, bytes_total=10)
    page = page_of(browser, model)
    assert "1 of its files is bad." in page and "wrong hash" in page and f'data-job="{job.pk}"' in page
    assert "act/repair/" in page and "act/load/" not in page


def test_spare_copies_and_models_that_share_the_files_are_named(browser, model, caches) -> None:
    make_cached_repo(Path(caches.secondary.path), "org/m", files=loadable_files(weights=1_000_000))
    ModelRegistry.objects.create(model_name="twin", hf_path="org/m", status="ready")
    measure_caches()
    page = page_of(browser, model)
    assert f"lies in {caches.secondary.path}" in page and "also served as twin" in page


def test_the_page_takes_the_same_queries_however_much_there_is(browser, caches) -> None:
    def count_queries(model: ModelRegistry) -> int:
        with CaptureQueriesContext(connection) as queries:
            page_of(browser, model)
        return len(queries)

    little, much = make_model("little"), make_model("much")
    record(little)
    Job.objects.create(kind="verify", model=little, state="done")
    for number in range(30):
        record(much, ago=timedelta(days=number))
        record_load(much, path=f"/{number}", seconds=1, at=timezone.now())
        Job.objects.create(kind="verify", model=much, state="done")
        make_model(f"other{number}")
    revision = {"commit": "a" * 40, "refs": [], "file_count": 1, "size_bytes": 1, "format": "", "missing": []}
    revisions = [revision | {"commit": f"{number:040x}"} for number in range(30)]
    CachedRepo.objects.create(
        cache=caches.primary, folder="models--org--much", repo_id="org/much", size_bytes=1, revisions=revisions
    )
    few = count_queries(little)
    assert count_queries(much) <= few + 1 <= 40


def test_the_settings_are_still_a_form_below(browser, model) -> None:
    page = page_of(browser, model)
    assert 'name="keep_alive"' in page and page.index("Verification") < page.index('name="keep_alive"')
