"""Errors of the registry.

HomelabError
  NotFound (404)
    UnknownModel, UnknownJob
    ModelNotDownloaded     the model is registered, but its files are on no drive that we can read
  Conflict (409)
    NameTaken, JobOpen, NotNow
  ErrandFailed             work that failed, see cachemgr
    HubError (502)         the Hub refused or did not answer; `is_permanent` says whether to try again
"""

from cachemgr.errors import ErrandFailed
from homelab.errors import Conflict, NotFound


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


class HubError(ErrandFailed):
    code = "hub_unreachable"
    status = 502
