"""Errors of the registry.

HomelabError
  NotFound (404)
    UnknownModel, UnknownJob
    ModelNotDownloaded     the model is registered, but its files are on no drive that we can read
  ModelDamaged (422)       a verification found bad files: no engine loads them
  Conflict (409)
    NameTaken, JobOpen, NotNow
    TargetExists           other files lie where a model should go
    FilesShared            other models live in the same folder
  ErrandFailed             work that failed, see cachemgr
    HubError (502)         the Hub refused or did not answer; `is_permanent` says whether to try again

Cancelled, Interrupted     no errors: how a job's work hears that it has to end
"""

from cachemgr.errors import ErrandFailed
from homelab.errors import Conflict, HomelabError, NotFound


class UnknownModel(NotFound):
    code = "model_not_found"


class UnknownJob(NotFound):
    code = "job_not_found"


class ModelNotDownloaded(NotFound):
    code = "model_not_downloaded"


class ModelDamaged(HomelabError):
    code = "hash_mismatch"
    status = 422


class NameTaken(Conflict):
    code = "name_taken"


class JobOpen(Conflict):
    code = "job_open"


class NotNow(Conflict):
    code = "not_now"


class TargetExists(Conflict):
    code = "target_exists"


class FilesShared(Conflict):
    code = "files_shared"


class HubError(ErrandFailed):
    code = "hub_unreachable"
    status = 502


class Cancelled(Exception):
    """The user asked for the end, or the lease went to another worker."""


class Interrupted(Exception):
    """The worker stops."""
