"""What memory there is for a newcomer, and who holds the rest: all that a decision needs, of one moment."""

from dataclasses import dataclass, replace

from inference.gauge import Gauge, Reading
from inference.places import Device
from inference.residents import Residents
from inference.scheduler import Resident, count_reclaimable
from inference.slots import Slot
from inference.standby import Standby


@dataclass(frozen=True, slots=True)
class Survey:
    """`devices`, the main memory first: what is promised to the residents is not free. Good until somebody waits."""

    devices: tuple[Device, ...]
    residents: tuple[Resident, ...]


class Surveyor:
    def __init__(self, residents: Residents, *, standby: Standby, gauge: Gauge) -> None:
        self._residents = residents
        self._standby = standby
        self._gauge = gauge

    async def survey(self, *, newcomer: Slot | None = None) -> Survey:
        """Of everybody but the newcomer. Raises what reading the devices raises."""
        reading = await self._read()
        others = [each for each in self._residents.everyone if each is not newcomer and each.memory is not None]
        residents = tuple(self._describe(each, reading) for each in others)
        return Survey(count_reclaimable(self._free_devices(reading), residents=residents), residents)

    async def _read(self) -> Reading:
        """Once more if somebody came or went meanwhile: whoever has gone would be neither in memory nor out of it."""
        holders = self._list_holders()
        reading = await self._gauge.read([pid for _, pid in holders if pid is not None])
        return reading if holders == self._list_holders() else await self._read()

    def _list_holders(self) -> set[tuple[Slot | None, int | None]]:
        """Who has memory or was promised some, with the processes."""
        slots = [slot for slot in self._residents.everyone if slot.memory is not None]
        return {(None, self._standby.pid), *((slot, slot.engine.pid if slot.engine else None) for slot in slots)}

    def _describe(self, slot: Slot, reading: Reading) -> Resident:
        taken = reading.taken.get(slot.engine.pid, {}) if slot.engine is not None else {}
        return slot.as_resident(is_leaving=slot in self._residents.leaving, taken=taken)

    def _free_devices(self, reading: Reading) -> tuple[Device, ...]:
        """The engine on standby becomes the one that is loaded: its memory is as good as free."""
        main_memory, *others = reading.devices
        pid = self._standby.pid
        standby_bytes = 0 if pid is None else reading.taken.get(pid, {}).get("cpu", 0)
        free_bytes = min(main_memory.free_bytes + standby_bytes, main_memory.total_bytes)
        return replace(main_memory, free_bytes=free_bytes), *others
