"""The buttons of a model's page in the admin."""

import pytest
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client

from homelab.owner import owner_account
from registry import checkups
from registry.models import Job

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def browser() -> Client:
    client = Client()
    client.force_login(owner_account())
    return client


def press(browser: Client, model, button: str):
    """As a browser does: with all that the form has."""
    page = f"/admin/registry/modelregistry/{model.pk}/change/"
    form = browser.get(page).context["adminform"].form
    fields = {name: value for name, value in form.initial.items() if value is not None and value is not False}
    return browser.post(page, fields | {f"registry_modelregistry_{button}": "", "_continue": ""})


def test_a_buttons_work_begins_when_the_page_is_saved_and_others_can_write(browser, model, monkeypatch) -> None:
    seen = []
    request_verify = checkups.request_verify

    def look(model):
        seen.append(connection.in_atomic_block)
        return request_verify(model)

    monkeypatch.setattr(checkups, "request_verify", look)
    answer = press(browser, model, "verify_now")
    assert [str(each) for each in get_messages(answer.wsgi_request)][-1] == f"All files of {model} are read again."
    assert seen == [False] and Job.objects.get().kind == "verify"


@pytest.mark.parametrize("button", ["load_now", "unload_now"])
def test_where_no_engines_run_the_page_says_where_they_do(browser, model, button) -> None:
    answer = press(browser, model, button)
    assert answer.status_code == 302
    assert "Start it with script/server" in [str(each) for each in get_messages(answer.wsgi_request)][-1]
