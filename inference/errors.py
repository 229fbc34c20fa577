"""Errors of serving. One with `retry_after_seconds` passes by itself; a client need not try the others again.

HomelabError
  EngineFailed (500)
    EngineDied                while it worked; the message has its last words
    EngineHung (504)          it did not answer any more, or made no step, and was ended
    ModelNotLoadable          it ended while it loaded, and said why
  ModelCrashed (503)          it failed too often: the model stays out of memory until somebody changes something
  InsufficientMemory (503)    the model does not fit into memory, whoever leaves
  ModelUnloaded (503)         somebody took it out of memory while it answered
  Overloaded (503)            too many requests wait already
  DownloadFailed (502)        a request began a download, and that did not end well
  NoPool (503)                this process has no engines
  ModelBusy (409)             it is answering requests: see cachemgr's RepoBusy
  BadRequest (400)            a field of an OpenAI request; `param` names it
"""

from cachemgr.errors import RepoBusy
from homelab.errors import HomelabError


class EngineFailed(HomelabError):
    code = "engine_failed"
    status = 500


class EngineDied(EngineFailed):
    code = "engine_died"
    retry_after_seconds = 1


class EngineHung(EngineFailed):
    code = "engine_hung"
    status = 504
    retry_after_seconds = 1


class ModelNotLoadable(EngineFailed):
    code = "model_not_loadable"


class ModelCrashed(HomelabError):
    code = "model_failed"
    status = 503


class InsufficientMemory(HomelabError):
    code = "insufficient_memory"
    status = 503


class ModelUnloaded(HomelabError):
    code = "model_unloaded"
    status = 503


class Overloaded(HomelabError):
    code = "overloaded"
    status = 503
    retry_after_seconds = 5


class DownloadFailed(HomelabError):
    code = "download_failed"
    status = 502


class NoPool(HomelabError):
    code = "no_engines_here"
    status = 503


class ModelBusy(RepoBusy):
    """The same for a client as a folder that somebody holds."""


class BadRequest(HomelabError):
    code = "invalid_value"
    status = 400

    def __init__(self, message: str, *, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code
