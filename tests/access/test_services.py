"""API keys: made, kept as hashes, revoked, rotated; and the first one, in a file."""

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from access import services
from access.errors import KeyIsDead, KeyNotFound
from access.models import ApiKey
from homelab.errors import InvalidValue
from homelab.launch.prepare import CannotStart, prepare_first_key

pytestmark = pytest.mark.django_db


def make(**others):
    return services.make_key(**{"name": "laptop", "scope": "admin"} | others)


def test_of_a_key_only_its_prefix_and_a_hash_are_kept():
    key, text = make()
    row = ApiKey.objects.filter(pk=key.pk).values().get()
    assert text.startswith(f"{row['prefix']}.") and len(text) == 41
    secret = text.partition(".")[2]
    assert not [value for value in row.values() if secret in str(value)]
    assert isinstance(row["id"], int)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "x" * 51}, "name"),
        ({"scope": "everything"}, "scope"),
        ({"expires_at": timezone.now() - timedelta(seconds=1)}, "expiry_date"),
    ],
)
def test_what_no_key_can_be_is_refused_with_its_field(wrong, field):
    with pytest.raises(InvalidValue) as refused:
        make(**wrong)
    assert refused.value.field == field
    assert not ApiKey.objects.exists()


def test_a_key_is_found_by_its_text_only_as_long_as_it_is_valid():
    key, text = make(expires_at=timezone.now() + timedelta(days=1))
    assert services.find_usable(text, scope="admin") == key
    assert services.find_usable(text, scope="inference") is None
    assert services.find_usable(text[:-1] + "!", scope="admin") is None
    ApiKey.objects.update(expiry_date=timezone.now())
    assert services.find_usable(text, scope="admin") is None
    assert not ApiKey.objects.usable().exists()


def test_a_revoked_key_is_dead_for_good():
    key, text = make()
    services.revoke(key)
    services.revoke(key)
    assert services.find_usable(text, scope="admin") is None
    assert (key.state, ApiKey.objects.usable().count()) == ("revoked", 0)
    key = ApiKey.objects.get()
    key.revoked = False
    with pytest.raises(ValidationError):
        key.save()


def test_a_rotated_key_gives_its_name_scope_and_end_to_a_new_one_and_is_dead():
    end = timezone.now() + timedelta(days=9)
    old, old_text = make(scope="inference", expires_at=end)
    new, text = services.rotate(old)
    assert (new.name, new.scope, new.expiry_date) == ("laptop", "inference", end)
    assert services.find_usable(old_text, scope="inference") is None
    assert services.find_usable(text, scope="inference") == new
    with pytest.raises(KeyIsDead, match=old.prefix):
        services.rotate(old)
    assert ApiKey.objects.count() == 2


def test_a_key_that_has_expired_is_not_rotated():
    key, _ = make()
    ApiKey.objects.update(expiry_date=timezone.now())
    with pytest.raises(KeyIsDead):
        services.rotate(key)


def test_a_key_is_found_by_its_prefix_or_by_what_was_pasted():
    key, text = make()
    assert services.find_key(key.prefix) == services.find_key(text) == key
    with pytest.raises(KeyNotFound, match="nothing"):
        services.find_key("nothing")


# The first one


def test_the_first_key_is_made_once_and_its_file_is_the_owners_alone(tmp_path: Path):
    path = tmp_path / "first-api-key"
    assert services.make_first_key(path)
    text = path.read_text().strip()
    assert services.find_usable(text, scope="admin")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not services.make_first_key(path)
    assert path.read_text().strip() == text


def test_where_a_key_was_ever_made_no_first_one_is(tmp_path: Path):
    services.revoke(make()[0])
    assert not services.make_first_key(tmp_path / "first-api-key")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_a_start_that_broke_off_is_replaced_and_not_followed(tmp_path: Path):
    path, victim = tmp_path / "first-api-key", tmp_path / "victim"
    victim.write_text("precious")
    path.symlink_to(victim)
    assert services.make_first_key(path)
    assert victim.read_text() == "precious" and not path.is_symlink()


def test_where_the_file_cannot_be_written_there_is_no_key_and_the_start_says_why(tmp_path: Path, settings):
    settings.FIRST_KEY_FILE = tmp_path / "not" / "there"
    with pytest.raises(CannotStart, match=f"{os.sep}there: No such file"):
        prepare_first_key()
    assert not ApiKey.objects.exists()
