"""An account that may only look sees the pages without their buttons, and what it sends changes nothing."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from cachemgr.models import Cache, TrashedRepo
from cachemgr.monitor import measure_caches
from registry import removal, services
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, make_cached_repo
from tests.web.measuring import GB, measured
from web import home_page

pytestmark = pytest.mark.django_db
IN_MEMORY: dict[str, Any] = {
    "model": "m",
    "status": "loaded",
    "memory_bytes": GB,
    "device": "cpu",
    "requests": 0,
    "unloads_at": None,
    "bytes_done": 0,
    "bytes_total": 0,
}


@pytest.fixture
def onlooker(client: Client, django_user_model: Any, caches: Any) -> Client:
    guest = django_user_model.objects.create_user("guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_modelregistry"))
    client.force_login(guest)
    return client


def page_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_jobs_have_no_buttons_and_go_on(onlooker: Client, browser: Client) -> None:
    job = services.request_download(ModelRegistry.objects.create(model_name="m", hf_path="org/m"))
    Job.objects.create(kind="verify", model=ModelRegistry.objects.get(), state="failed", error_message="Bad.")
    assert "/cancel?" in page_of(browser, "/jobs") and "/retry?" in page_of(browser, "/jobs")
    page = page_of(onlooker, "/jobs")
    assert f'id="job-{job.pk}"' in page and "/cancel?" not in page and "/retry?" not in page
    for action in ("cancel", "retry", "repair", "undo"):
        assert onlooker.post(f"/jobs/{job.pk}/{action}").status_code == 403
    job.refresh_from_db()
    assert job.state == "queued" and not job.cancel_requested


def test_what_was_removed_stays_in_the_trash(onlooker: Client, caches: Any) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    measure_caches()
    removal.remove(ModelRegistry.objects.get())
    page = page_of(onlooker, "/jobs")
    assert "Its files are in the trash until" in page and "/undo?" not in page
    assert onlooker.post(f"/jobs/{Job.objects.get().pk}/undo").status_code == 403
    assert not ModelRegistry.objects.exists()


def test_no_model_is_taken_out_of_memory(onlooker: Client, browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_page, "pool_of", lambda request: None)  # the pool is the ASGI server's
    monkeypatch.setattr(home_page, "list_presences", lambda pool: [IN_MEMORY])
    assert 'id="unload-m"' in page_of(browser, "/")
    page = page_of(onlooker, "/")
    assert "1.0 GB of RAM, idle, stays" in page and 'id="unload-m"' not in page
    assert onlooker.post("/", {"model": "m", "force": "yes"}).status_code == 403


def test_a_first_visit_leads_to_nothing_that_is_refused(onlooker: Client) -> None:
    page = page_of(onlooker, "/")
    assert "Ask the owner of this server" in page and "/modelregistry/add/" not in page


def test_a_drive_is_not_taken_into_use(onlooker: Client, browser: Client, caches: Any) -> None:
    measured(caches.secondary, state="missing", message="There is no folder. Use --create.", figures_at=None)
    assert "Create Folder" in page_of(browser, "/settings")
    assert "Create Folder" not in page_of(onlooker, "/settings")
    wish = {"cache": caches.secondary.pk, "action": "replace"}
    assert onlooker.post("/settings", wish).status_code == 403
    assert onlooker.post("/settings").status_code == 302, "to measure is to look"


def test_nothing_is_cleaned_up(onlooker: Client, caches: Any) -> None:
    measure_caches()
    assert "Remove What Is Ticked" not in page_of(onlooker, "/settings/clean")
    assert onlooker.post("/settings/clean", {"classes": ["partials"]}).status_code == 403
    assert Cache.objects.filter(is_configured=True).count() == 2


def test_the_lists_of_the_admin_offer_no_actions_either(onlooker: Client, caches: Any) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    measure_caches()
    removal.remove(ModelRegistry.objects.get())
    job = services.request_download(ModelRegistry.objects.create(model_name="other", hf_path="org/other"))
    entry = TrashedRepo.objects.get()
    for address, action, row in (
        ("/admin/registry/job/", "cancel_selected", job),
        ("/admin/cachemgr/trashedrepo/", "restore_selected", entry),
        ("/admin/cachemgr/trashedrepo/", "empty_selected", entry),
    ):
        assert action not in page_of(onlooker, address)
        onlooker.post(address, {"action": action, "_selected_action": row.pk, "sure": "yes"})
    job.refresh_from_db()
    assert job.state == "queued" and not job.cancel_requested
    assert TrashedRepo.objects.get() == entry and not ModelRegistry.objects.filter(hf_path="org/m").exists()
