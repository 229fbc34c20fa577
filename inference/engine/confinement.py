"""Who an engine becomes before it reads a model, of all that it could be here. Pure.

1. An ordinary user stays what it is: it has no rights to give up.
2. Root becomes nobody, where nobody can read the model and the libraries.
3. Else it stays root, without capabilities: it may do what root's name on a file allows.
4. Else, with one: to read what is not its own.
5. One that waited on standby has threads, and none of them can give up another's rights: 2, or it stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from inference.engine.kernel import CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID

FOR_THE_CHOICE = frozenset({CAP_SETUID, CAP_SETGID, CAP_DAC_READ_SEARCH})
"""What root keeps until it knows its model."""
_TO_CHANGE = {CAP_SETUID, CAP_SETGID, CAP_KILL}  # the server shares them, and has to be able to end what it started


@dataclass(frozen=True, slots=True)
class Identity:
    """`keeps` are capabilities. `exposure`: what is wrong with it, as the beginning of a sentence, or ""."""

    name: str
    uid: int
    gid: int
    keeps: frozenset[int] = frozenset()
    exposure: str = ""


def list_identities(
    own: Identity, *, nobody: Identity, capabilities: frozenset[int], has_threads: bool
) -> tuple[Identity, ...]:
    """The best first; the last one is taken whatever it can read. `capabilities` are those that it began with."""
    if own.uid != 0:  # 1
        return (own,)
    others = (nobody,) if capabilities >= _TO_CHANGE else ()  # 2
    if has_threads:  # 5
        return (*others, _as_root(own, keeps=FOR_THE_CHOICE, how="with the rights that it waited with"))
    return (
        *others,
        _as_root(own, keeps=frozenset(), how="without capabilities"),  # 3
        _as_root(own, keeps=frozenset({CAP_DAC_READ_SEARCH}), how="and may read all files"),  # 4
    )


def _as_root(own: Identity, *, keeps: frozenset[int], how: str) -> Identity:
    return Identity(own.name, own.uid, own.gid, keeps, f"It runs as {own.name}, {how}")


def choose(identities: tuple[Identity, ...], *, obstacles: Mapping[Identity, str]) -> Identity:
    """`obstacles`: why one will not do."""
    return next((each for each in identities if each not in obstacles), identities[-1])


def explain(chosen: Identity, *, obstacles: Mapping[Identity, str]) -> str:
    """A sentence about what the choice leaves open, or ""."""
    if not chosen.exposure:
        return ""
    why = next(iter(obstacles.values()), "this server has not the rights to become another user")
    return f"{chosen.exposure}: {why}."
