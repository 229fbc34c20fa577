"""Who may come into memory, and who must go for it. Pure: no process, clock or torch inside."""

from collections.abc import Iterable
from dataclasses import dataclass

RUNTIME_BYTES = 500 * 10**6
_OVERHEAD = 1.2  # activations, the KV cache of short chats


@dataclass(frozen=True)
class Resident:
    """A loaded model. `idle_since` is on any clock that only goes forward."""

    model_name: str
    memory_bytes: int
    in_flight: int
    is_pinned: bool
    idle_since: float


@dataclass(frozen=True)
class Admission:
    """`verdict`: admit (after evicting), wait (somebody busy will make room), or refuse."""

    verdict: str
    evict: tuple[str, ...] = ()


def memory_needed(weights_bytes: int) -> int:
    """What an engine takes for such weights: the libraries, the weights, and room to work."""
    return RUNTIME_BYTES + round(weights_bytes * _OVERHEAD)


def plan_admission(*, needed_bytes: int, available_bytes: int, residents: Iterable[Resident]) -> Admission:
    """Decides about one model that wants to be loaded.

    1. It fits beside the others: admit.
    2. It fits once idle models that nobody pinned have gone, least recently used first: evict these, admit.
    3. It would fit if busy ones ended: wait.
    4. It never fits: refuse.
    """
    if needed_bytes <= available_bytes:  # 1
        return Admission("admit")
    leavers = sorted((each for each in residents if not each.is_pinned), key=lambda each: each.idle_since)
    room, chosen = available_bytes, []
    for resident in (each for each in leavers if each.in_flight == 0):  # 2
        chosen.append(resident.model_name)
        room += resident.memory_bytes
        if needed_bytes <= room:
            return Admission("admit", evict=tuple(chosen))
    if needed_bytes <= available_bytes + sum(each.memory_bytes for each in leavers):  # 3
        return Admission("wait")
    return Admission("refuse")  # 4
