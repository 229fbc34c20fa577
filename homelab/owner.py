"""On this machine nobody signs in: a request that the gate calls local acts as the owner. So does one with a key.

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
from rest_framework.permissions import SAFE_METHODS, IsAdminUser
from rest_framework.request import Request

from homelab.errors import HomelabError

OWNER_NAME = "owner"


class NotSignedIn(HomelabError):
    code = "not_authenticated"
    status = 401


def acts_as_owner(request: Any) -> bool:
    """True where the gate vouches for who asks: this machine, if its owner trusts it, or a key for this very door."""
    scope = getattr(request, "scope", {})
    return bool(scope.get("homelab.local")) or scope.get("homelab.key") is not None


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
        raise NotSignedIn("Sign in at /login first, with an account of the admin, or send a key.")


def may_call(scope: MutableMapping[str, Any]) -> None:
    """The same, for what is answered before Django's middleware."""
    may_act(read_session(scope))


def read_session(scope: MutableMapping[str, Any]) -> HttpRequest:
    """A request with the session and the user of a signed-in browser, without Django's middleware around it."""
    request = ASGIRequest(scope, BytesIO())
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    request.user = get_user(request)
    return request


class LocalOwnerMiddleware:
    """Gives whom the gate vouches for, and who is not signed in, the owner's account, when somebody asks for it."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if acts_as_owner(request):
            signed_in, signed_in_async = request.user, request.auser

            def user() -> User | AnonymousUser:
                return signed_in if signed_in.is_authenticated else owner_account()

            async def auser() -> User | AnonymousUser:
                found = await signed_in_async()
                return found if found.is_authenticated else await sync_to_async(owner_account)()

            request.user = SimpleLazyObject(user)  # type: ignore[assignment]
            request.auser = auser
        return self.get_response(request)


class MayAct(IsAdminUser):
    """Every account of the admin may look; what changes anything takes the same right as in the admin. A view whose
    POST only asks says `is_question`."""

    message = "Your account may look, but not change anything. An owner of this server can give it the right to."

    def has_permission(self, request: Request, view: Any) -> bool:
        if not super().has_permission(request, view):
            return False
        is_looking = request.method in SAFE_METHODS or getattr(view, "is_question", False)
        return is_looking or request.user.has_perm(settings.RIGHT_TO_ACT)


class LocalOwnerAuthentication(BaseAuthentication):
    """For the API. No CSRF token is asked of this machine, whose gate has refused other sites' pages, nor of a key."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        return (request._request.user, None) if acts_as_owner(request._request) else None  # type: ignore[return-value]

    def authenticate_header(self, request: Request) -> str:
        """How to come in where nobody is. DRF asks the first class of the list, and answers 403 without it."""
        return 'Bearer realm="a key, or sign in at /login"'


class SessionSignIn(SessionAuthentication):
    """A signed-in browser."""
