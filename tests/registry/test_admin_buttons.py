"""When the work of a button begins."""

import pytest
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client

from homelab.owner import owner_account
from registry import checkups
from registry.models import Job

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_buttons_work_begins_outside_of_a_transaction_and_others_can_write(model, monkeypatch) -> None:
    """While it waits for a drive, say."""
    browser, seen, request_verify = Client(), [], checkups.request_verify
    browser.force_login(owner_account())

    def look(model):
        seen.append(connection.in_atomic_block)
        return request_verify(model)

    monkeypatch.setattr(checkups, "request_verify", look)
    answer = browser.post(f"/admin/registry/modelregistry/act/verify/?model={model.pk}", {"sure": "yes"})
    assert [str(each) for each in get_messages(answer.wsgi_request)] == [f"All files of {model} are read again."]
    assert seen == [False] and Job.objects.get().kind == "verify"
