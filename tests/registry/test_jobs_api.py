"""Jobs in `/api/jobs` and in the admin: the list, one job, cancel and retry."""

import pytest

from cachemgr.models import Cache
from homelab.owner import owner_account
from registry import jobs, services
from registry.models import Job, ModelRegistry

pytestmark = pytest.mark.django_db


@pytest.fixture
def job() -> Job:
    return services.request_download(ModelRegistry.objects.create(model_name="m", hf_path="org/m"))


def test_jobs_are_listed_shown_cancelled_and_tried_again_by_the_api(api, job) -> None:
    assert [each["id"] for each in api.get("/api/jobs").json()] == [job.pk]
    shown = api.get(f"/api/jobs/{job.pk}").json()
    assert (shown["model"], shown["source"]) == ("m", None)
    assert shown["target"]["cache_location"] == "primary"
    assert api.get("/api/jobs/999").json()["error"]["code"] == "job_not_found"
    assert api.post(f"/api/jobs/{job.pk}/retry").json()["error"]["code"] == "not_now"
    assert api.post(f"/api/jobs/{job.pk}/cancel").json()["state"] == "cancelled"
    assert api.post(f"/api/jobs/{job.pk}/cancel").status_code == 409
    again = api.post(f"/api/jobs/{job.pk}/retry")
    assert (again.status_code, again.json()["state"]) == (202, "queued")


def test_the_list_is_asked_by_state_kind_and_model(api, job) -> None:
    jobs.cancel_job(job)
    other = ModelRegistry.objects.create(model_name="other", hf_path="org/other")
    waits = Job.objects.create(kind="verify", model=other)

    def found(query: str) -> list[int]:
        return [each["id"] for each in api.get(f"/api/jobs?{query}").json()]

    assert found("state=open") == found("state=queued") == found("kind=verify") == found("model=other") == [waits.pk]
    assert found("state=cancelled") == found("model=m") == [job.pk] and found("") == [waits.pk, job.pk]
    assert found("state=failed") == []
    assert api.get("/api/jobs?state=late").json()["error"]["code"] == "invalid_choice"
    assert api.get("/api/jobs?model=nobody").json()["error"]["code"] == "model_not_found"


def test_the_list_of_jobs_asks_the_database_once_however_many_there_are(api, job, django_assert_num_queries) -> None:
    api.get("/api/jobs")
    for number in range(5):
        model = ModelRegistry.objects.create(model_name=f"m{number}", hf_path="org/m")
        services.request_download(model)
    with django_assert_num_queries(1):
        assert len(api.get("/api/jobs").json()) == 6


# The admin


def test_the_admin_lists_jobs_with_their_drives_and_cancels_and_tries_again(client, job) -> None:
    client.force_login(owner_account())
    far = Cache.objects.create(location="custom", path="/mnt/far")
    Job.objects.update(source=far)
    page = client.get("/admin/registry/job/").content.decode()
    assert f"/mnt/far → {job.target.path}" in page
    for action, state in (("cancel_selected", "cancelled"), ("retry_selected", "queued")):
        form = {"action": action, "_selected_action": [job.pk]}
        assert client.post("/admin/registry/job/", form).status_code == 302
        assert Job.objects.get().state == state
    client.post("/admin/registry/job/", form)
    assert "only a job that failed or was cancelled" in client.get("/admin/registry/job/").content.decode()
