"""The database where no request of Django's begins and ends."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def outside_requests(work: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Does for the connection of its thread what a request does: one that broke is not used, none stays open for
    longer than CONN_MAX_AGE."""

    @wraps(work)
    def framed(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        close_old_connections()
        try:
            return work(*args, **kwargs)
        finally:
            close_old_connections()

    return framed
