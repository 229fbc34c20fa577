"""Who may come into memory, and who must go for it. Pure: no process, clock or torch inside."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cachemgr.units import format_bytes
from inference.places import Device

PATIENCE_SECONDS = 10.0
"""So long may the first in the queue be overtaken, and models in use keep it waiting."""

_LEAST_SECONDS = 1.0  # of idleness and of loading: nothing costs nothing
_MOST_PRIORITY = 64


@dataclass(frozen=True, slots=True)
class Resident:
    """An engine that holds memory, or was promised some. Bytes by device, `idle_since` on any clock that goes forward.

    `held` is what its plan says, `taken` how much of that the devices do not call free any more. Where that is not
    known it is all, and nothing yet of one that loads.
    """

    model_name: str
    held: Mapping[str, int]
    in_flight: int = 0
    is_pinned: bool = False
    idle_since: float = 0.0
    load_seconds: float = 1.0
    priority: int = 0
    state: Literal["loading", "ready", "leaving"] = "ready"
    taken: Mapping[str, int] = field(default_factory=dict)

    @property
    def stays(self) -> bool:
        return self.is_pinned and self.state != "leaving"

    @property
    def can_be_asked(self) -> bool:
        """To go when it is idle. One that loads is not: somebody waits for it."""
        return self.state == "ready" and not self.is_pinned

    def count_promised(self, device: str) -> int:
        """Bytes that it will still take."""
        held = self.held.get(device, 0)
        return max(0, held - self.taken.get(device, 0 if self.state == "loading" else held))

    def count_freed(self, device: str) -> int:
        """What its end leaves for others: what it has, and what it was promised."""
        return max(self.held.get(device, 0), self.taken.get(device, 0))

    def cost(self, *, now: float) -> float:
        """Of losing it: the seconds of loading it again, doubled for each step of priority, for a second of idleness.

        8 s of loading, idle for 4 minutes: 0.033. 2 s, idle for 10 s: 0.2.
        """
        weight = 2.0 ** max(-_MOST_PRIORITY, min(_MOST_PRIORITY, self.priority))
        idle_seconds = 0.0 if self.in_flight else now - self.idle_since
        return max(self.load_seconds, _LEAST_SECONDS) * weight / max(idle_seconds, _LEAST_SECONDS)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A model that wants to be loaded. `has_made_room`: others have left for it. `ways_out`: sentences of its memory
    plan, for a refusal."""

    model_name: str
    needs: Mapping[str, int]
    waiting_since: float = 0.0
    has_made_room: bool = False
    ways_out: tuple[str, ...] = ()

    def comes_first(self, *, now: float) -> bool:
        """Nobody who wants the same devices overtakes it."""
        return self.has_made_room or now - self.waiting_since >= PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Admission:
    """`admit`: when those in `evict` have gone. `wait`: until something has changed, and those in `let_go` take no new
    requests from now on. `refuse`, and `wait`, say why in `message`."""

    verdict: Literal["admit", "wait", "refuse"]
    evict: tuple[str, ...] = ()
    let_go: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """The devices as they are, with what is promised to engines taken off. Bytes by device."""

    devices: Mapping[str, Device]
    residents: Sequence[Resident] = field(default_factory=tuple)

    def find_lacking(self, needs: Mapping[str, int], *, leavers: Iterable[Resident] = ()) -> dict[str, int]:
        """Bytes that are not there, by device, once these have left. A device that is not there any more has none."""
        gone = list(leavers)
        free = {name: self.devices[name].free_bytes if name in self.devices else 0 for name in needs}
        lacking = {
            name: needed - free[name] - sum(each.count_freed(name) for each in gone) for name, needed in needs.items()
        }
        return {name: missing for name, missing in lacking.items() if missing > 0}


def count_reclaimable(devices: Iterable[Device], *, residents: Sequence[Resident]) -> tuple[Device, ...]:
    """The devices as a newcomer sees them: less is free than they say, and more would be if all left who may."""
    return tuple(
        replace(
            device,
            free_bytes=max(0, device.free_bytes - sum(each.count_promised(device.name) for each in residents)),
            reclaimable_bytes=sum(each.count_freed(device.name) for each in residents if not each.stays),
        )
        for device in devices
    )


def plan_admission(
    arrival: Arrival,
    *,
    devices: Iterable[Device],
    residents: Sequence[Resident],
    now: float,
    ahead: Sequence[Arrival] = (),
) -> Admission:
    """Decides about one model that wants to be loaded. `devices` come from `count_reclaimable`.

    1. It would not fit if all left who may: refuse, with the numbers.
    2. Others wait already, for room on a device that it wants too.
       a. It fits beside all that is there, and of those that are short of the same device, none has waited for 10
          seconds, and for none others have left: admit.
       b. Else wait: the first in the queue is not overtaken for ever, nor robbed of the room that was made for it, and
          only the first makes others leave.
    3. It fits beside all that is there: admit.
    4. It fits once idle models that nobody pinned have left, beside engines that are ending: the cheapest go, and none
       whose going does not help.
    5. Somebody busy, loading or leaving will make room.
       a. It has waited for less than 10 seconds: wait.
       b. Else the cheapest that suffice, busy or not, take no new requests from now on: wait for them.
    """
    room = Room({device.name: device for device in devices}, residents)
    leavers = [each for each in residents if not each.stays]
    if room.find_lacking(arrival.needs, leavers=leavers):  # 1
        return Admission("refuse", message=" ".join(_explain_refusal(arrival, room=room)))
    lacking = room.find_lacking(arrival.needs)
    if rivals := [each for each in ahead if _are_rivals(each, arrival, room=room)]:  # 2
        is_second = any(each.comes_first(now=now) for each in rivals)
        return _wait(arrival, room=room, lacking=lacking) if lacking or is_second else Admission("admit")
    if not lacking:  # 3
        return Admission("admit")
    ending = [each for each in residents if each.state == "leaving" and each.in_flight == 0]
    idle = [each for each in residents if each.can_be_asked and each.in_flight == 0]
    if chosen := _choose_leavers(idle, needs=arrival.needs, room=room, now=now, going=ending):  # 4
        return Admission("admit", evict=chosen)
    waiting = _wait(arrival, room=room, lacking=lacking)
    if now - arrival.waiting_since < PATIENCE_SECONDS:  # 5
        return waiting
    leaving = [each for each in residents if each.state == "leaving"]
    anyone = [each for each in residents if each.can_be_asked]
    return replace(waiting, let_go=_choose_leavers(anyone, needs=arrival.needs, room=room, now=now, going=leaving))


def _are_rivals(first: Arrival, second: Arrival, *, room: Room) -> bool:
    """All models on GPUs take a little of the main memory too, and keep nobody from it while there is enough."""
    contested = room.find_lacking(first.needs) or first.needs
    return bool(set(contested) & set(second.needs))


def _choose_leavers(
    candidates: Iterable[Resident],
    *,
    needs: Mapping[str, int],
    room: Room,
    now: float,
    going: Sequence[Resident],
) -> tuple[str, ...]:
    """The cheapest first until it suffices, and then without those, dearest first, that it suffices without. () if all
    of them do not, or if `going`, who go anyway, do."""
    chosen: list[Resident] = []
    for each in sorted(candidates, key=lambda each: each.cost(now=now)):
        if room.find_lacking(needs, leavers=[*going, *chosen]):
            chosen.append(each)
    if room.find_lacking(needs, leavers=[*going, *chosen]):
        return ()
    for each in reversed(chosen.copy()):
        others = [other for other in chosen if other is not each]
        if not room.find_lacking(needs, leavers=[*going, *others]):
            chosen = others
    return tuple(each.model_name for each in chosen)


def _wait(arrival: Arrival, *, room: Room, lacking: Mapping[str, int]) -> Admission:
    busy = [each.model_name for each in room.residents if not each.stays and any(map(each.count_freed, lacking))]
    who = f" Models that will make room: {', '.join(busy)}." if busy else " Others wait for memory longer."
    return Admission("wait", message=" ".join(_describe_needs(arrival, room=room)) + who)


def _describe_needs(arrival: Arrival, *, room: Room) -> Iterator[str]:
    for name, needed in arrival.needs.items():
        device = room.devices[name]
        yield (
            f"{arrival.model_name} needs {format_bytes(needed)} on {name} ({device.label}), "
            f"and {format_bytes(device.free_bytes)} of {format_bytes(device.total_bytes)} are free there."
        )


def _explain_refusal(arrival: Arrival, *, room: Room) -> Iterator[str]:
    """What is needed, what is free, who holds the rest, and the ways out."""
    leavers = [each for each in room.residents if not each.stays]
    lacking = room.find_lacking(arrival.needs, leavers=leavers)
    yield from _describe_needs(replace(arrival, needs={name: arrival.needs[name] for name in lacking}), room=room)
    if reclaimable := sum(each.count_freed(name) for each in leavers for name in lacking):
        yield f"Other models could give back {format_bytes(reclaimable)}."
    pinned = [each for each in room.residents if each.stays and any(map(each.count_freed, lacking))]
    for each in pinned:
        size_bytes = sum(each.count_freed(name) for name in lacking)
        yield f"{each.model_name} is pinned and holds {format_bytes(size_bytes)}: unpin it."
    yield from arrival.ways_out
    if not pinned and not arrival.ways_out:
        yield "Choose a smaller model, or stop other programs that use this memory."
