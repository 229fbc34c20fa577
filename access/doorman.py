"""What the gate asks: whose key is this, and is somebody signed in?"""

from collections.abc import MutableMapping
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError

from access.errors import KeysAway
from access.keyring import Keyring, KnownKey
from access.models import ApiKey
from homelab.database import outside_requests
from homelab.owner import read_session

SESSION_KEY = "access.key_prefix"
"""In the session of who signed in with a key: it lasts as long as that key."""
_AWAY = "The database does not answer now, so nobody can be let in. Try again in a few seconds."


class Doorman:
    """Belongs to one event loop. Raises KeysAway."""

    def __init__(self) -> None:
        self.keyring = Keyring()

    async def find_key(self, text: str) -> KnownKey | None:
        try:
            return await self.keyring.find(text)
        except DatabaseError as error:
            raise KeysAway(_AWAY) from error

    async def is_signed_in(self, scope: MutableMapping[str, Any]) -> bool:
        try:
            return await sync_to_async(outside_requests(_is_signed_in), thread_sensitive=False)(scope)
        except DatabaseError as error:
            raise KeysAway(_AWAY) from error


def _is_signed_in(scope: MutableMapping[str, Any]) -> bool:
    request = read_session(scope)
    if not request.user.is_authenticated:
        return False
    prefix = request.session.get(SESSION_KEY)
    return prefix is None or ApiKey.objects.usable().filter(prefix=prefix, scope=ApiKey.Scope.ADMIN).exists()
