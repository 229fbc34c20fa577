"""Who did what: for each change that somebody asked for, an entry in the admin's history and a line in the log.

Services call `record`; the doors say who acts: `ActorMiddleware` for requests, `acting` for the shell. What happens
without anybody's word is the server's own.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from homelab.owner import OWNER_NAME, owner_account

logger = logging.getLogger(__name__)

KEPT = timedelta(days=365)
_DONE = {ADDITION: "added", CHANGE: "changed", DELETION: "removed"}
_TITLE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Actor:
    """`name` is how the history calls it. Its account is looked up when something is written down."""

    name: Callable[[], str]
    account: Callable[[], User] = owner_account


SERVER = Actor(lambda: "the server itself")
SHELL = Actor(lambda: "the shell")

_acting: ContextVar[Actor] = ContextVar("acting", default=SERVER)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Whatever is recorded in the block was done by the actor."""
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)


# Writing it down


def record_addition(target: models.Model, sentence: str) -> None:
    _record(target, sentence, flag=ADDITION)


def record_change(target: models.Model, sentence: str) -> None:
    _record(target, sentence, flag=CHANGE)


def record_removal(target: models.Model, sentence: str) -> None:
    """Before the row goes: then it still has its number."""
    _record(target, sentence, flag=DELETION)


def _record(target: models.Model, sentence: str, *, flag: int) -> None:
    actor = _acting.get()
    LogEntry.objects.create(
        user=actor.account(),
        content_type=ContentType.objects.get_for_model(target),
        object_id=str(target.pk),
        object_repr=str(target)[:_TITLE_LENGTH],
        action_flag=flag,
        change_message=f"{sentence} By {actor.name()}.",
    )


def write_line(*, instance: LogEntry, created: bool, **_: Any) -> None:
    """Receives `post_save` of the history: what Django's own admin pages write there, too, has its line."""
    if created:
        done, kind = _DONE.get(instance.action_flag, "touched"), instance.content_type
        about = f"{kind.name if kind else 'thing'} {instance.object_repr}"
        logger.info("%s %s %s: %s", instance.user.get_username(), done, about, instance.get_change_message())


def forget_outdated() -> int:
    """Answers how many entries were older than a year."""
    count, _ = LogEntry.objects.filter(action_time__lt=timezone.now() - KEPT).delete()
    return count


# Who asks


class ActorMiddleware:
    """After those that know the user."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self._answer(request)
        with acting(_actor_of(request)):
            return self.get_response(request)

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        with acting(_actor_of(request)):
            response: HttpResponse = await self.get_response(request)
            return response


def _actor_of(request: HttpRequest) -> Actor:
    return Actor(lambda: _name_of(request), lambda: _account_of(request))


def _name_of(request: HttpRequest) -> str:
    if key := _scope_of(request).get("homelab.key"):
        return f"the key {key.name}"
    name = _account_of(request).get_username()
    return "this machine" if name == OWNER_NAME and _scope_of(request).get("homelab.local") else name


def _account_of(request: HttpRequest) -> User:
    user: User | AnonymousUser = request.user
    return user if isinstance(user, User) and user.is_authenticated else owner_account()


def _scope_of(request: HttpRequest) -> dict[str, Any]:
    return getattr(request, "scope", {})
