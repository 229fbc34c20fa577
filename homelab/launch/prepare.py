"""The database and the system checks, before any process starts."""

import logging
import os

import django
from django.core import checks
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, Error

from homelab.errors import HomelabError


class CannotStart(HomelabError):
    """Something that the server needs is not right; the message says what and what to do."""

    code = "cannot_start"


def prepare_database() -> None:
    """Applies the migrations; a new database file is readable by its owner alone."""
    users_umask = os.umask(0o077)
    try:
        django.setup()
        logging.getLogger().setLevel(logging.WARNING)  # the start says in sentences what it does
        call_command("migrate", verbosity=0, interactive=False)
    except Error as error:
        raise CannotStart(f"The database cannot be prepared: {error}. Look at DATABASE_URL and DATA_DIR.") from error
    finally:
        os.umask(users_umask)


def prepare_first_key() -> str:
    """The path of the first admin key, where there was no key before; "" else."""
    from django.conf import settings

    from access.services import make_first_key

    try:
        return str(settings.FIRST_KEY_FILE) if make_first_key(settings.FIRST_KEY_FILE) else ""
    except OSError as error:
        raise CannotStart(f"The first API key cannot be written to {error.filename}: {error.strerror}.") from error


def system_check_hints() -> list[str]:
    """Django's and our own system checks: warnings as sentences. Errors stop the start."""
    found = [message for message in checks.run_checks(databases=[DEFAULT_DB_ALIAS]) if not message.is_silenced()]
    errors = [sentence(message) for message in found if message.is_serious(checks.ERROR)]
    if errors:
        raise CannotStart(" ".join(errors))
    return [sentence(message) for message in found]


def sentence(message: checks.CheckMessage) -> str:
    return f"{message.msg} {message.hint or ''}".strip() + f" ({message.id})"
