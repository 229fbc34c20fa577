"""The admin page of API keys."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from access.models import ApiKey
from access.services import find_usable, make_key

pytestmark = pytest.mark.django_db
LIST = "/admin/access/apikey/"


def shown_keys(answer) -> list[str]:
    return re.findall(r"\b\w{8}\.\w{32}\b", answer.content.decode())


def test_a_new_key_is_shown_in_the_answer_once_and_kept_nowhere(browser: Client) -> None:
    form = {"name": "laptop", "scope": "admin", "expiry_date_0": "", "expiry_date_1": ""}
    answer = browser.post(f"{LIST}add/", form)
    [text] = shown_keys(answer)
    assert find_usable(text, scope="admin").name == "laptop"
    assert "no-store" in answer.headers["Cache-Control"]
    assert shown_keys(browser.get(LIST)) == []
    assert not [cookie for cookie in browser.cookies.values() if text in cookie.value]
    assert not [session for session in Session.objects.all() if text in str(session.get_decoded())]
    assert LogEntry.objects.get().object_repr == "laptop"


def test_a_key_that_would_be_dead_from_the_start_is_refused(browser: Client) -> None:
    form = {"name": "x", "scope": "admin", "expiry_date_0": "2020-01-01", "expiry_date_1": "00:00"}
    answer = browser.post(f"{LIST}add/", form)
    assert "This moment has passed" in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_a_keys_name_and_end_can_change_and_nothing_else(browser: Client) -> None:
    key, _ = make_key(name="old", scope="inference")
    form = {"name": "new", "scope": "admin", "revoked": "on", "expiry_date_0": "2099-01-01", "expiry_date_1": "00:00"}
    assert browser.post(f"{LIST}{key.pk}/change/", form).status_code == 302
    key = ApiKey.objects.get()
    assert (key.name, key.scope, key.revoked, key.expiry_date.year) == ("new", "inference", False, 2099)


def act(browser: Client, action: str, *keys: ApiKey):
    return browser.post(LIST, {"action": action, "_selected_action": [key.pk for key in keys]})


def test_keys_are_rotated_from_the_list(browser: Client) -> None:
    first, second = make_key(name="a", scope="admin")[0], make_key(name="b", scope="inference")[0]
    texts = shown_keys(act(browser, "rotate_selected", first, second))
    assert sorted(ApiKey.objects.get(prefix=text[:8]).name for text in texts) == ["a", "b"]
    assert not ApiKey.objects.usable().filter(pk__in=[first.pk, second.pk]).exists()


def test_keys_are_revoked_from_the_list_and_dead_ones_stay_dead(browser: Client) -> None:
    key, text = make_key(name="a", scope="admin")
    act(browser, "revoke_selected", key)
    assert not find_usable(text, scope="admin")
    assert shown_keys(act(browser, "rotate_selected", key)) == []
    assert ApiKey.objects.count() == 1
    form = {"name": "other", "expiry_date_0": "", "expiry_date_1": ""}
    browser.post(f"{LIST}{key.pk}/change/", form)
    assert ApiKey.objects.get().name == "a"


def test_a_key_is_never_removed(browser: Client) -> None:
    key, _ = make_key(name="a", scope="admin")
    assert browser.post(f"{LIST}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    act(browser, "delete_selected", key)
    assert ApiKey.objects.exists()


def test_the_list_has_few_queries_however_many_keys(browser: Client, django_assert_max_num_queries) -> None:
    for number in range(20):
        make_key(name=str(number), scope="admin", expires_at=timezone.now() + timedelta(days=1))
    with django_assert_max_num_queries(8):
        assert browser.get(LIST).status_code == 200
