"""The Jobs page, without its script: lists, filters, pages and buttons."""

from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cachemgr.monitor import measure_caches
from registry import jobs, removal, services
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files
from web.jobs_page import PAGE_SIZE

pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting(caches) -> Job:
    return services.request_download(ModelRegistry.objects.create(model_name="m", hf_path="org/m"))


def page_of(browser: Client, query: str = "") -> str:
    answer = browser.get(f"/jobs{query}")
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def make_ended(count: int, **values) -> list[Job]:
    ended = {
        "kind": "verify",
        "state": "done",
        "model_name": "old",
        "hf_path": "org/old",
        "finished_at": timezone.now(),
    }
    return [Job.objects.create(**ended | values) for _ in range(count)]


def test_without_jobs_it_says_so(browser) -> None:
    page = page_of(browser)
    assert "Nothing runs or waits." in page and "No job has ended yet." in page and "jobs-filter" not in page
    assert "/admin/registry/job/" in page


def test_what_runs_and_waits_stands_above_what_ended(browser, waiting) -> None:
    (ended,) = make_ended(1)
    Job.objects.filter(pk=waiting.pk).update(state="running", stage="downloading", bytes_done=5, bytes_total=10, rate=5)
    other = services.request_download(ModelRegistry.objects.create(model_name="later", hf_path="org/later"))
    page = page_of(browser)
    assert "downloading: 5 B of 10 B, 5 B/s, 1 s left" in page and 'value="50.0"' in page
    assert "waits for its turn" in page and "the Hub" in page and "Cancel stops it" in page
    places = [page.index(f'id="job-{each.pk}"') for each in (waiting, other, ended)]
    assert places == sorted(places)


def test_names_and_errors_are_texts_and_no_markup(browser) -> None:
    make_ended(1, model_name="<b>m</b>", state="failed", error_message="<script>no</script>")
    page = page_of(browser)
    assert "<script>no" not in page and "&lt;script&gt;no" in page and "&lt;b&gt;m" in page


def test_the_ended_ones_are_filtered_by_the_url(browser) -> None:
    (failed,) = make_ended(1, state="failed", kind="download", hf_path="org/special")
    (done,) = make_ended(1)
    shown = {query: f'id="job-{failed.pk}"' in page_of(browser, query) for query in ("?state=failed", "?state=done")}
    assert shown == {"?state=failed": True, "?state=done": False}
    page = page_of(browser, "?kind=download&model=SPECIAL")
    assert f'id="job-{failed.pk}"' in page and f'id="job-{done.pk}"' not in page and "Show all" in page
    assert "No job that ended fits this filter." in page_of(browser, "?model=nobody")


@pytest.mark.parametrize(
    "query", ["?state=late", "?kind=x", "?before=-1", "?before=x", "?model=%00", "?before=" + "9" * 40]
)
def test_a_wrong_filter_is_explained_and_not_used(browser, query: str) -> None:
    make_ended(1)
    page = page_of(browser, query)
    assert "is not used:" in page and 'class="job"' in page


def test_older_ones_are_a_page_further(browser) -> None:
    oldest, *_ = make_ended(PAGE_SIZE + 1)
    page = page_of(browser, "?state=done")
    assert page.count('class="job"') == PAGE_SIZE and f'id="job-{oldest.pk}"' not in page
    older = f"?state=done&before={oldest.pk + 1}"
    assert older.replace("&", "&amp;") in page
    page = page_of(browser, older)
    assert f'id="job-{oldest.pk}"' in page and "Newest" in page and "Older" not in page
    assert "There are no older jobs." in page_of(browser, "?before=1")


def test_it_takes_the_same_few_queries_for_any_number_of_jobs(browser, waiting, django_assert_num_queries) -> None:
    make_ended(3)
    page_of(browser)
    with CaptureQueriesContext(connection) as queries:
        page_of(browser)
    make_ended(60)
    for number in range(5):
        services.request_download(ModelRegistry.objects.create(model_name=f"m{number}", hf_path="org/m"))
    with django_assert_num_queries(len(queries)):
        page_of(browser)
    assert len(queries) <= 6, [each["sql"] for each in queries]


def test_its_script_gets_the_lists_alone(browser, waiting) -> None:
    make_ended(1)
    part = page_of(browser, "?part=open")
    assert "<html" not in part and 'id="open-jobs"' in part and 'id="ended-jobs"' not in part
    part = page_of(browser, "?part=all")
    assert "<html" not in part and 'id="open-jobs"' in part and 'id="ended-jobs"' in part


def test_cancel_and_try_again_lead_back_to_the_page_as_it_was(browser, waiting) -> None:
    answer = browser.post(f"/jobs/{waiting.pk}/cancel?kind=download", follow=True)
    assert answer.redirect_chain == [("/jobs?kind=download", 302)]
    assert "The download of m ends." in answer.content.decode()
    waiting.refresh_from_db()
    assert waiting.state == "cancelled" and "Try again" in page_of(browser)
    assert "is queued again" in browser.post(f"/jobs/{waiting.pk}/retry", follow=True).content.decode()
    waiting.refresh_from_db()
    assert waiting.state == "queued"


def test_a_refusal_is_a_sentence_on_the_page(browser, waiting) -> None:
    jobs.cancel_job(waiting)
    assert "is cancelled already" in browser.post(f"/jobs/{waiting.pk}/cancel", follow=True).content.decode()
    assert "There is no job 999" in browser.post("/jobs/999/cancel", follow=True).content.decode()
    assert "is not in the trash any more" in browser.post(f"/jobs/{waiting.pk}/undo", follow=True).content.decode()
    assert browser.post(f"/jobs/{waiting.pk}/explode").status_code == 404
    assert browser.get(f"/jobs/{waiting.pk}/cancel").status_code == 405


def test_a_removal_is_undone(browser, caches, make_cached_repo) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    measure_caches()
    model = ModelRegistry.objects.get(hf_path="org/m")
    removal.remove(model)
    page = page_of(browser)
    job = Job.objects.get(kind="remove")
    assert f"/jobs/{job.pk}/undo" in page and "Its files are in the trash until" in page
    answer = browser.post(f"/jobs/{job.pk}/undo", follow=True).content.decode()
    assert f"{model.model_name} is back in its place." in answer and f"/jobs/{job.pk}/undo" not in answer
    assert ModelRegistry.objects.filter(hf_path="org/m", status="ready").exists()


def test_it_is_for_who_may_use_the_admin(client) -> None:
    assert client.get("/jobs").status_code == 302
    assert client.post("/jobs/1/cancel").status_code == 302
