"""What stops a move, in sentences. `name` is the file's name for a person."""

from cachemgr.hands.errors import Trouble
from cachemgr.hands.survey import Move


def source_corrupt(move: Move, name: str, what: str) -> Trouble:
    message = f"{name} of {move.folder} in {move.source.path} {what}. It stays there: verify and repair it."
    return Trouble(message, code="source_corrupt")


def target_corrupt(move: Move, name: str, what: str) -> Trouble:
    message = f"{name} of {move.folder} {what}. The copy in {move.target.path} was thrown away."
    return Trouble(message, code="target_corrupt", is_permanent=False)


def source_changed(move: Move, name: str) -> Trouble:
    message = f"{name} of {move.folder} changed in {move.source.path} while it was copied."
    return Trouble(message, code="source_changed", is_permanent=False)


def target_exists(move: Move, why: str = "it has other files") -> Trouble:
    message = f"{move.target.path} holds another {move.folder} already, and {why}. Remove that one first."
    return Trouble(message, code="target_exists")


def not_staged(move: Move, name: str) -> Trouble:
    message = f"{name} of job {move.job} is not whole in {move.target.path}."
    return Trouble(message, code="not_staged", is_permanent=False)


def target_incomplete(move: Move) -> Trouble:
    message = f"{move.folder} is not in {move.target.path}, so that nothing of it is removed in {move.source.path}."
    return Trouble(message, code="target_incomplete", is_permanent=False)
