from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest

from access.models import ApiKey
from access.services import find_usable
from homelab.owner import owner_account


class KeyBackend(ModelBackend):
    """Whoever has an admin key signs in as the owner."""

    def authenticate(self, request: HttpRequest | None, *, api_key: str) -> User | None:  # type: ignore[override]
        return owner_account() if find_usable(api_key, scope=ApiKey.Scope.ADMIN) else None
