"""The queue for memory, in the order in which they asked. Who may come, and who must go for it, says scheduler.py."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from inference.devices import Device
from inference.errors import InsufficientMemory
from inference.facts import ModelFacts
from inference.memory import Choices, MemoryPlan, plan_memory
from inference.residents import Residents
from inference.scheduler import Admission, Arrival, count_reclaimable, plan_admission
from inference.slots import Slot
from inference.standby import Standby
from registry.serving import ServingSettings

_LOOK_SECONDS = 1.0  # others use the memory too, and do not tell
_NOT_YET = Admission("wait", message="Others leave for a model that was asked for earlier.")


class AdmissionQueue:
    """`read_devices` tells what memory there is at this moment."""

    def __init__(self, residents: Residents, *, standby: Standby, read_devices: Callable[[], Sequence[Device]]) -> None:
        self.read_devices = read_devices
        self.waiting: list[Slot] = []
        self._arrivals: dict[Slot, Arrival] = {}
        self._evicting: set[Slot] = set()
        self._residents = residents
        self._standby = standby

    async def admit(self, slot: Slot, facts: ModelFacts) -> MemoryPlan:
        """Waits for room; others leave for it where the plan says so. From then on the memory is the slot's. Raises
        InsufficientMemory, UnservableChoice."""
        slot.queued_at = time.monotonic()
        self.waiting.append(slot)
        self._number()
        try:
            while not (plan := await self._try(slot, facts)):
                continue
            return plan
        finally:
            self.waiting.remove(slot)
            self._arrivals.pop(slot, None)
            self._evicting.discard(slot)
            self._number()

    async def _try(self, slot: Slot, facts: ModelFacts) -> MemoryPlan | None:
        """None after a while, or when others have left: what there is has to be read again."""
        self._residents.changed.clear()
        plan, admission = self._decide(slot, facts)
        if admission.verdict == "refuse":
            raise InsufficientMemory(admission.message, details=self._figures(plan))
        if admission.verdict == "wait":
            await self._wait(slot, admission)
        elif admission.evict:
            self._evicting.add(slot)
            await self._evict(admission.evict)
        else:
            slot.memory = plan
            return plan
        return None

    def _decide(self, slot: Slot, facts: ModelFacts) -> tuple[MemoryPlan, Admission]:
        leaving = self._residents.leaving
        others = [each for each in self._residents.everyone if each is not slot and each.memory is not None]
        residents = [each.as_resident(is_leaving=each in leaving) for each in others]
        devices = count_reclaimable(self._free_devices(), residents=residents)
        plan = plan_memory(facts, choices=_choices(slot), devices=devices)
        arrival = Arrival(slot.model_name, plan.needs, waiting_since=slot.queued_at, ways_out=plan.ways_out)
        self._arrivals[slot] = arrival
        before = self.waiting[: self.waiting.index(slot)]
        ahead = [self._arrivals[each] for each in before if each in self._arrivals]
        now = time.monotonic()
        admission = plan_admission(arrival, devices=devices, residents=residents, now=now, ahead=ahead)
        if admission.verdict == "admit" and self._evicting.intersection(before):
            return plan, _NOT_YET  # the room was made for somebody else
        return plan, admission

    def _free_devices(self) -> tuple[Device, ...]:
        """The engine on standby becomes the one that is loaded: its memory is as good as free."""
        main_memory, *others = self.read_devices()
        free = main_memory.free_bytes + self._standby.memory_bytes
        return replace(main_memory, free_bytes=min(free, main_memory.total_bytes)), *others

    def _figures(self, plan: MemoryPlan) -> dict[str, object]:
        free = {device.name: device.free_bytes for device in self._free_devices() if device.name in plan.needs}
        totals = {"needed_bytes": plan.total_bytes, "free_bytes": sum(free.values())}
        by_device = {name: {"needed_bytes": plan.needs[name], "free_bytes": free[name]} for name in free}
        return {**totals, "devices": by_device, "ways_out": list(plan.ways_out)}

    async def _evict(self, names: Sequence[str]) -> None:
        """Whoever has begun to leave does so, also when we are broken off meanwhile."""
        leavers = [slot for name, slot in self._residents.slots.items() if name in names]
        await asyncio.shield(asyncio.gather(*(self._residents.end(slot) for slot in leavers)))

    async def _wait(self, slot: Slot, admission: Admission) -> None:
        for name in admission.let_go:
            self._residents.let_go(self._residents.slots[name])
        slot.enter("queued", position=slot.stage.position, reason=admission.message)
        try:
            await asyncio.wait_for(self._residents.changed.wait(), _LOOK_SECONDS)
        except TimeoutError:
            return

    def _number(self) -> None:
        for position, slot in enumerate(self.waiting, start=1):
            slot.enter("queued", position=position, reason=slot.stage.reason)


def _choices(slot: Slot) -> Choices:
    serving = slot.located.serving if slot.located else ServingSettings()
    return Choices(
        dtype=serving.dtype,
        device=serving.device,
        quantization=serving.quantization,
        context_length=serving.context_length,
        parallel_requests=serving.parallel_requests,
    )
