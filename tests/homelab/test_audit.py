"""Who did what: in the admin's history and in the log, whichever door somebody came through."""

import logging
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as project_settings
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import call_command
from django.test import RequestFactory
from django.utils import timezone

from cachemgr import cleaning, monitor, trash
from cachemgr.services import sync_configured_caches
from homelab import audit
from homelab.audit import ActorMiddleware
from homelab.owner import owner_account
from homelab.tasks import forget_history
from registry.models import ModelRegistry
from tests.factories import age_tree, loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db(transaction=True)
PHONE = SimpleNamespace(name="phone", prefix="abcdefgh")
WISH = {"model_name": "a", "hf_path": "org/a", "cache_location": "primary", "estimated_size_mb": 5}


def entries(model_name: str = "") -> list[tuple[int, str, str]]:
    """Oldest first: the flag, what it was done to, and the sentence."""
    found = LogEntry.objects.order_by("pk")
    found = found.filter(object_repr=model_name) if model_name else found
    return [(entry.action_flag, entry.object_repr, entry.change_message) for entry in found]


def test_what_is_done_by_rest_is_written_down_with_who_did_it(api, caches) -> None:
    ada = User.objects.create_superuser("ada")
    api.force_authenticate(ada)
    assert api.post("/api/models", WISH, format="json").status_code == 201
    api.patch("/api/models/a", {"pinned": True, "priority": 3}, format="json")
    api.patch("/api/models/a", {"pinned": True}, format="json")  # nothing new
    api.patch("/api/models/a", {"cache_location": "secondary"}, format="json")
    assert api.delete("/api/models/a?files=keep").status_code == 204
    primary, secondary = caches.primary.path, caches.secondary.path
    assert entries() == [
        (ADDITION, "a", f"Registered: org/a in {primary}. By ada."),
        (CHANGE, "a", "pinned is True now, priority is 3 now. By ada."),
        (CHANGE, "a", f"It belongs in {secondary} now, and no longer in {primary}. By ada."),
        (DELETION, "a", f"Forgotten. Its files in {secondary} were left alone. By ada."),
    ]
    assert {entry.user for entry in LogEntry.objects.all()} == {ada}


def test_what_fails_is_not_written_down(api, caches) -> None:
    assert api.post("/api/models", WISH | {"estimated_size_mb": 10**6}, format="json").status_code == 507
    assert api.post("/api/models", WISH | {"hf_path": "../x"}, format="json").status_code == 400
    assert entries() == []


def test_the_admin_writes_one_entry_and_its_page_shows_it(browser, caches, settings) -> None:
    form = WISH | {"wanted_revision": "main"}
    assert browser.post("/admin/registry/modelregistry/add/", form).status_code == 302
    model = ModelRegistry.objects.get()
    assert entries("a") == [(ADDITION, "a", f"Registered: org/a in {caches.primary.path}. By owner.")]
    page = browser.get(f"/admin/registry/modelregistry/{model.pk}/history/").content.decode()
    assert "Registered: org/a" in page
    assert "Registered: org/a" in browser.get("/admin/admin/logentry/").content.decode()


def test_the_shell_is_named(caches) -> None:
    call_command("register", "a", "org/a", cache_location="primary", estimated_size_mb="5", verbosity=0)
    assert [sentence for _, _, sentence in entries()] == [f"Registered: org/a in {caches.primary.path}. By the shell."]


def test_the_way_into_the_trash_and_back_and_out_is_written_down(api, caches, model) -> None:
    for answer in ("restore", ""):
        assert api.delete("/api/models/m?files=trash").status_code == 200
        (entry,) = trash.entries()
        if answer:
            assert api.post(f"/api/cache/trash/{entry.pk}/restore").status_code == 204
        else:
            assert api.delete(f"/api/cache/trash/{entry.pk}").status_code == 200
    place, in_trash = caches.primary.path, "m in the trash of primary"
    removed = (DELETION, "m", f"Its files in {place} went to the trash, and it is forgotten. By owner.")
    back = (ADDITION, "m", f"It came back from the trash of {place}. By owner.")
    *before, (flag, title, sentence) = entries()
    assert before == [removed, (CHANGE, in_trash, "Back in its place. By owner."), back, removed]
    assert (flag, title) == (DELETION, in_trash) and sentence.startswith("Removed for good; ")


def test_caches_are_adopted_cleaned_up_and_limited_by_somebody(api, caches, settings) -> None:
    assert api.post("/api/cache/adopt", {"cache_location": "primary", "create": True}, format="json").status_code == 200
    settings.PRIMARY_CACHE_LIMIT_BYTES = 5 * 10**9
    sync_configured_caches()
    primary = str(caches.primary)
    assert entries(primary) == [
        (CHANGE, primary, "Adopted, with leave to create. By owner."),
        (CHANGE, primary, "By .env it is primary now, with a limit of 5.0 GB. By the server itself."),
    ]
    cleaning.plan_clean().execute()  # there was nothing to clean up
    assert len(entries()) == 2


def test_a_clean_up_is_written_down(caches, monkeypatch) -> None:
    monkeypatch.setattr(cleaning, "MIN_AGE_SECONDS", 0.0)
    monitor.measure_caches()
    repo = make_cached_repo(Path(caches.primary.path), "org/x", files=loadable_files())
    (repo / "blobs" / "1234.abcdef01.incomplete").write_bytes(b"x" * 1000)
    age_tree(repo)
    with audit.acting(audit.SHELL):
        plan = cleaning.plan_clean(["partials"])
        assert plan.count == 1
        plan.execute()
    ((flag, _, sentence),) = entries()
    assert (
        flag == CHANGE and sentence.startswith("Cleaned up: downloads that did not finish.") and "the shell" in sentence
    )


@pytest.mark.parametrize(
    ("scope", "user", "name"),
    [
        ({"homelab.local": True}, "owner", "this machine"),
        ({"homelab.local": True}, "ada", "ada"),
        ({}, "owner", "owner"),
        ({"homelab.key": PHONE}, "owner", "the key phone"),
        ({"homelab.key": PHONE}, None, "the key phone"),
    ],
)
def test_the_actor_is_the_key_this_machine_or_the_account(scope, user, name, model) -> None:
    request = RequestFactory().post("/api/models")
    request.scope = scope
    account = owner_account() if user in (None, "owner") else User.objects.create_user(user)
    request.user = account if user else AnonymousUser()

    def view(request):
        audit.record_change(model, "Something.")

    ActorMiddleware(view)(request)
    assert entries("m")[-1][2] == f"Something. By {name}."
    assert LogEntry.objects.latest("pk").user == account


async def test_an_async_view_knows_its_actor_and_nobody_else_does(model) -> None:
    request = RequestFactory().post("/api/models")
    request.scope = {"homelab.key": PHONE}
    request.user = await sync_to_async(owner_account)()

    async def view(request):
        await sync_to_async(audit.record_change)(model, "Something.")

    await ActorMiddleware(view)(request)
    await sync_to_async(audit.record_change)(model, "Else.")
    written = await sync_to_async(entries)("m")
    assert [sentence for _, _, sentence in written[-2:]] == [
        "Something. By the key phone.",
        "Else. By the server itself.",
    ]


def test_each_entry_is_a_line_in_the_log_also_those_of_djangos_own_pages(api, browser, caches, caplog) -> None:
    caplog.set_level(logging.INFO, logger="homelab.audit")
    api.post("/api/models", WISH, format="json")
    browser.post("/admin/auth/user/add/", {"username": "eve", "password1": "correct horse 7", "password2": "correct horse 7",
                                           "usable_password": "true"})  # fmt: skip
    lines = [record.message for record in caplog.records if record.name == "homelab.audit"]
    assert lines[0] == f"owner added model a: Registered: org/a in {caches.primary.path}. By owner."
    assert lines[1].startswith("owner added user eve")


def test_after_a_year_it_is_forgotten(model) -> None:
    audit.record_change(model, "Old.")
    audit.record_change(model, "Young.")
    old, young = LogEntry.objects.order_by("-pk")[:2][::-1]
    for entry, days in ((old, 366), (young, 364)):
        LogEntry.objects.filter(pk=entry.pk).update(action_time=timezone.now() - timedelta(days=days))
    assert audit.forget_outdated() == 1
    assert not LogEntry.objects.filter(pk=old.pk).exists() and LogEntry.objects.filter(pk=young.pk).exists()


def test_beat_forgets_it() -> None:
    assert forget_history.name in {each["task"] for each in project_settings.CELERY_BEAT_SCHEDULE.values()}
