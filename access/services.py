"""Keys are made, rotated and revoked here, whichever door asks. A key itself is told once, to whoever made it."""

import os
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from access.errors import KeyIsDead, KeyNotFound
from access.models import ApiKey
from homelab import audit
from homelab.errors import InvalidValue

FIRST_NAME = "first key"


def make_key(*, name: str, scope: str, expires_at: datetime | None = None) -> tuple[ApiKey, str]:
    """The row, and the key itself. Raises InvalidValue."""
    key = ApiKey(name=name.strip(), scope=scope, expiry_date=expires_at)
    return key, keep(key)


def keep(key: ApiKey) -> str:
    """Gives a new row its secret and saves it. The key itself, which cannot be had again. Raises InvalidValue."""
    text: str = ApiKey.objects.assign_key(key)
    try:
        key.full_clean()
    except ValidationError as error:
        field, problems = next(iter(error.message_dict.items()))
        raise InvalidValue(f"{field}: {problems[0]}", field=field) from error
    with transaction.atomic():
        key.save()
        audit.record_addition(key, f"Made: {key.prefix}, with the scope {key.scope}.")
    return text


def find_key(prefix: str) -> ApiKey:
    """By its prefix, also where somebody pasted the whole key. Raises KeyNotFound."""
    prefix = prefix.partition(".")[0]
    try:
        key: ApiKey = ApiKey.objects.get(prefix=prefix)
    except ApiKey.DoesNotExist as error:
        raise KeyNotFound(f"No API key begins with {prefix[:40]!r}. manage.py apikey list shows them.") from error
    return key


def revoke(key: ApiKey) -> None:
    """Within two seconds it opens nothing any more. Doing it twice is fine."""
    with transaction.atomic():
        key.revoked = True
        key.save(update_fields=["revoked"])
        audit.record_change(key, "Revoked.")


def change(key: ApiKey, *, fields: Collection[str]) -> None:
    """Saves what somebody typed into these columns."""
    with transaction.atomic():
        key.save(update_fields=list(fields))
        audit.record_change(key, f"Changed: {', '.join(fields) or 'nothing'}.")


def rotate(key: ApiKey) -> tuple[ApiKey, str]:
    """A new key in place of the old one, which is revoked. Raises KeyIsDead."""
    with transaction.atomic():
        if not ApiKey.objects.usable().filter(pk=key.pk).update(revoked=True):
            raise KeyIsDead(f"The key {key.prefix} ({key.name}) is revoked or has expired. Make a new one.")
        made, text = make_key(name=key.name, scope=key.scope, expires_at=key.expiry_date)
        audit.record_change(key, f"Rotated: {made.prefix} takes its place.")
        return made, text


def find_usable(text: str, *, scope: str) -> ApiKey | None:
    """The row of a key that somebody shows, if it is valid now and of this scope."""
    try:
        key: ApiKey = ApiKey.objects.get_from_key(text)
    except ApiKey.DoesNotExist:
        return None
    return key if key.state == "valid" and key.scope == scope else None


def note_use(pk: int) -> None:
    ApiKey.objects.filter(pk=pk).update(last_used_at=timezone.now())


def make_first_key(path: Path) -> bool:
    """An admin key in a file of the owner's alone, where there never was a key. True if it was made now.

    Raises OSError.
    """
    if ApiKey.objects.exists():
        return False
    with transaction.atomic():
        _, text = make_key(name=FIRST_NAME, scope=ApiKey.Scope.ADMIN)
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"{text}\n")
    return True
