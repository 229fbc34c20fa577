"""Errors of serving.

HomelabError
  EngineFailed (500)         the engine did not start, or died; the message has its last words
  InsufficientMemory (503)   the model does not fit into memory, whoever leaves
  Overloaded (503)           too many requests wait already
  ModelBusy (409)            it is answering requests: see cachemgr's RepoBusy
  BadRequest (400)           a field of an OpenAI request; `param` names it
"""

from cachemgr.errors import RepoBusy
from homelab.errors import HomelabError


class EngineFailed(HomelabError):
    code = "engine_failed"
    status = 500


class InsufficientMemory(HomelabError):
    code = "insufficient_memory"
    status = 503


class Overloaded(HomelabError):
    code = "overloaded"
    status = 503
    retry_after_seconds = 5


class NoPool(HomelabError):
    code = "no_engines_here"
    status = 503


class ModelBusy(RepoBusy):
    """The same for a client as a folder that somebody holds."""


class BadRequest(HomelabError):
    code = "invalid_value"
    status = 400

    def __init__(self, message: str, *, param: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code
