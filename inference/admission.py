"""The queue for memory, in the order in which they asked. Who may come, and who must go for it, says scheduler.py."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from inference.errors import InsufficientMemory
from inference.facts import ModelFacts
from inference.memory import Choices, MemoryPlan, plan_memory
from inference.places import Device
from inference.residents import Residents
from inference.scheduler import Admission, Arrival, plan_admission
from inference.slots import Slot
from inference.survey import Survey, Surveyor
from registry.serving import ServingSettings

_LOOK_SECONDS = 1.0  # others use the memory too, and do not tell


class AdmissionQueue:
    def __init__(self, residents: Residents, *, surveyor: Surveyor) -> None:
        self.waiting: list[Slot] = []
        self._arrivals: dict[Slot, Arrival] = {}
        self._residents = residents
        self._surveyor = surveyor

    async def admit(self, slot: Slot, facts: ModelFacts) -> None:
        """Waits for room; others leave for it where the plan says so. From then on the memory is the slot's. Raises
        InsufficientMemory, UnservableChoice."""
        slot.queued_at = time.monotonic()
        self.waiting.append(slot)
        self._number()
        try:
            while slot.memory is None:
                await self._try(slot, facts)
        finally:
            self.waiting.remove(slot)
            self._arrivals.pop(slot, None)
            self._number()

    async def _try(self, slot: Slot, facts: ModelFacts) -> None:
        """Ends after a while, or when others have left: what there is has to be read again."""
        change = self._residents.next_change
        survey = await self._surveyor.survey(newcomer=slot)
        plan, admission = self._decide(slot, facts, survey=survey)
        if admission.verdict == "refuse":
            raise InsufficientMemory(admission.message, details=_figures(plan, devices=survey.devices))
        if admission.verdict == "wait":
            await self._wait(slot, admission, change=change)
        elif admission.evict:
            await self._evict(slot, admission.evict)
        else:
            slot.memory = plan
            slot.free_bytes = sum(_free_by_device(plan, devices=survey.devices).values())

    def _decide(self, slot: Slot, facts: ModelFacts, *, survey: Survey) -> tuple[MemoryPlan, Admission]:
        plan = plan_memory(facts, choices=_choices(slot), devices=survey.devices)
        before = self._arrivals.get(slot)
        self._arrivals[slot] = arrival = Arrival(
            slot.model_name,
            plan.needs,
            waiting_since=slot.queued_at,
            has_made_room=before is not None and before.has_made_room,
            ways_out=plan.ways_out,
        )
        admission = plan_admission(
            arrival,
            devices=survey.devices,
            residents=survey.residents,
            now=time.monotonic(),
            ahead=self._ahead_of(slot),
        )
        return plan, admission

    def _ahead_of(self, slot: Slot) -> list[Arrival]:
        earlier = self.waiting[: self.waiting.index(slot)]
        return [self._arrivals[each] for each in earlier if each in self._arrivals]

    async def _evict(self, slot: Slot, names: Sequence[str]) -> None:
        """Whoever has begun to leave does so, also when we are broken off meanwhile."""
        self._arrivals[slot] = replace(self._arrivals[slot], has_made_room=True)
        endings = [self._residents.end(self._residents.slots[name]) for name in names]
        await asyncio.shield(asyncio.gather(*endings))

    async def _wait(self, slot: Slot, admission: Admission, *, change: asyncio.Event) -> None:
        for name in admission.let_go:
            self._residents.let_go(self._residents.slots[name])
        slot.enter("queued", position=slot.stage.position, reason=admission.message)
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await change.wait()
        except TimeoutError:
            return

    def _number(self) -> None:
        for position, slot in enumerate(self.waiting, start=1):
            slot.enter("queued", position=position, reason=slot.stage.reason)


def _figures(plan: MemoryPlan, *, devices: Sequence[Device]) -> dict[str, object]:
    free = _free_by_device(plan, devices=devices)
    totals = {"needed_bytes": plan.total_bytes, "free_bytes": sum(free.values())}
    by_device = {name: {"needed_bytes": plan.needs[name], "free_bytes": free[name]} for name in free}
    return {**totals, "devices": by_device, "ways_out": list(plan.ways_out)}


def _free_by_device(plan: MemoryPlan, *, devices: Sequence[Device]) -> dict[str, int]:
    return {device.name: device.free_bytes for device in devices if device.name in plan.needs}


def _choices(slot: Slot) -> Choices:
    serving = slot.located.serving if slot.located else ServingSettings()
    return Choices(
        dtype=serving.dtype,
        device=serving.device,
        quantization=serving.quantization,
        context_length=serving.context_length,
        parallel_requests=serving.parallel_requests,
    )
