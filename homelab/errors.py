"""The base of all errors that a user may see. Each has a code for programs and a sentence for people."""

from collections.abc import Mapping
from typing import Any


class HomelabError(Exception):
    """`code` names the reason, `status` is the HTTP answer, the message names values and the way out."""

    code = "error"
    status = 500

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})


def openai_type(status: int) -> str:
    """The word of OpenAI's API for an error with this HTTP status."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    return kinds.get(status, "invalid_request_error" if status < 500 else "server_error")


class InvalidValue(HomelabError):
    """A value of the request is not acceptable: `field` says which one."""

    code = "invalid"
    status = 400

    def __init__(self, message: str, *, field: str, code: str = "invalid") -> None:
        super().__init__(message, details={"fields": {field: [{"code": code, "message": message}]}})
        self.code = code
        self.field = field


class NotFound(HomelabError):
    code = "not_found"
    status = 404


class Conflict(HomelabError):
    code = "conflict"
    status = 409
