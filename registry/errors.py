"""Errors of the registry.

HomelabError
  NotFound (404)
    UnknownModel, UnknownJob
    ModelNotDownloaded     the model is registered, but its files are on no drive that we can read
  Conflict (409)
    NameTaken, JobOpen, NotNow
  HubError                 the Hub refused or did not answer; `is_permanent` says whether to try again
"""

from typing import Any

from homelab.errors import Conflict, HomelabError, NotFound


class UnknownModel(NotFound):
    code = "model_not_found"


class UnknownJob(NotFound):
    code = "job_not_found"


class ModelNotDownloaded(NotFound):
    code = "model_not_downloaded"


class NameTaken(Conflict):
    code = "name_taken"


class JobOpen(Conflict):
    code = "job_open"


class NotNow(Conflict):
    code = "not_now"


class HubError(HomelabError):
    code = "hub_unreachable"
    status = 502

    def __init__(self, message: str, *, code: str, is_permanent: bool, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, details=details)
        self.code = code
        self.is_permanent = is_permanent
