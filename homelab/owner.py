"""On this machine nobody signs in: a request that the gate calls local acts as the owner.

The owner is a real account (the admin's history names it) without a password, made when it is first needed.
"""

from collections.abc import Callable, MutableMapping
from io import BytesIO
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request

from homelab.errors import HomelabError

OWNER_NAME = "owner"


class NotSignedIn(HomelabError):
    code = "not_authenticated"
    status = 401


def is_local(request: Any) -> bool:
    """True when the gate saw all four signs of a request from this machine, and the owner trusts these."""
    return is_local_scope(getattr(request, "scope", {}))


def is_local_scope(scope: MutableMapping[str, Any]) -> bool:
    return settings.LOCAL_TRUST and bool(scope.get("homelab.local"))


def owner_account() -> User:
    owner, made = get_user_model().objects.get_or_create(
        username=OWNER_NAME, defaults={"is_staff": True, "is_superuser": True}
    )
    if made:
        owner.set_unusable_password()
        owner.save(update_fields=["password"])
    return owner


def may_act(request: HttpRequest) -> None:
    """Raises NotSignedIn unless the owner, or an account of the admin, asks. For views that are not DRF's."""
    if not (request.user.is_authenticated and request.user.is_staff):
        raise NotSignedIn("Sign in at /admin/login/ first: LOCAL_TRUST is off.")


def may_call(scope: MutableMapping[str, Any]) -> None:
    """The same, for what is answered before Django's middleware: a signed-in browser brings its session along."""
    request = ASGIRequest(scope, BytesIO())
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    request.user = get_user(request)
    may_act(request)


class LocalOwnerMiddleware:
    """Gives a local request that is not signed in the owner's account, when somebody asks for it."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if is_local(request):
            signed_in, signed_in_async = request.user, request.auser

            def user() -> User | AnonymousUser:
                return signed_in if signed_in.is_authenticated else owner_account()

            async def auser() -> User | AnonymousUser:
                found = await signed_in_async()
                return found if found.is_authenticated else await sync_to_async(owner_account)()

            request.user = SimpleLazyObject(user)  # type: ignore[assignment]
            request.auser = auser
        return self.get_response(request)


class LocalOwnerAuthentication(BaseAuthentication):
    """For the API. No CSRF token is asked of a local request: the gate has refused other sites' pages."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        return (request._request.user, None) if is_local(request._request) else None  # type: ignore[return-value]

    def authenticate_header(self, request: Request) -> str:
        """How to come in where nobody is. DRF asks the first class of the list, and answers 403 without it."""
        return 'Session realm="sign in at /admin/login/"'


class SessionSignIn(SessionAuthentication):
    """A signed-in browser."""
