"""`manage.py apikey`."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from access.models import ApiKey
from access.services import find_usable, make_key

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    output = StringIO()
    call_command("apikey", *words, stdout=output)
    return output.getvalue()


def test_a_key_is_made_and_told_this_once():
    text = run("create", "chat box", "--scope", "inference", "--expires", "90d").splitlines()[0]
    key = find_usable(text, scope="inference")
    assert key.name == "chat box"
    assert 89 < (key.expiry_date - key.created).total_seconds() / 86400 <= 90
    assert text.partition(".")[2] not in run("list")
    assert "chat box" in run("list")


def test_with_json_all_is_one_document():
    made = json.loads(run("create", "mine", "--scope", "admin", "--json"))
    assert find_usable(made.pop("key"), scope="admin")
    assert made == json.loads(run("list", "--json"))[0]
    assert made["state"] == "valid" and made["expires_at"] is None
    assert json.loads(run("revoke", made["prefix"], "--json"))["state"] == "revoked"


def test_a_key_is_rotated_and_revoked_by_its_prefix():
    key, old = make_key(name="mine", scope="admin")
    new = run("rotate", key.prefix).splitlines()[0]
    assert find_usable(new, scope="admin") and not find_usable(old, scope="admin")
    assert "revoked" in run("revoke", new)
    assert not ApiKey.objects.usable().exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["create"], "wants a name"),
        (["create", "x"], "--scope inference or --scope admin"),
        (["create", "x" * 51, "--scope", "admin"], "name: "),
        (["create", "x", "--scope", "admin", "--expires", "soon"], "'soon'; days such as 90d"),
        (["create", "x", "--scope", "admin", "--expires", "0d"], "'0d'"),
        (["revoke"], "apikey revoke PREFIX"),
        (["rotate", "nobody"], "No API key begins with 'nobody'"),
        (["burn", "x"], "invalid choice"),
    ],
)
def test_a_wrong_line_is_a_sentence(words, sentence):
    with pytest.raises(CommandError, match=sentence):
        run(*words)
    assert not ApiKey.objects.exists()
