"""The queue for memory, on machines of a chosen size: slots without engines, real plans of a real model."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from cachemgr.units import format_bytes
from inference.admission import AdmissionQueue
from inference.errors import InsufficientMemory
from inference.facts import ModelFacts, read_facts
from inference.gauge import Gauge
from inference.memory import Choices, plan_memory
from inference.places import Device
from inference.process import EngineProcess
from inference.residents import Residents
from inference.slots import Slot
from inference.standby import Standby
from inference.survey import Surveyor
from registry.locating import LocatedModel
from registry.serving import ServingSettings
from tests.inference.conftest import BUSY_SECONDS
from tests.inference.pooling import until

ROOMY = 10**12


@dataclass
class Standing:
    """An engine that waits, as far as the queue is concerned."""

    memory_bytes: int = 0
    pid: int = 1


class House:
    """Takes what is free at its word: whoever was admitted has all of its memory at once. As large as so many places for
    the model, or as the devices that are given."""

    def __init__(
        self,
        facts: ModelFacts,
        *,
        places: float = 0,
        totals: Mapping[str, int] | None = None,
        standby: Standing | None = None,
    ) -> None:
        self.facts = facts
        self.came: list[str] = []
        self.residents = Residents()
        roomy = Device("cpu", ROOMY, ROOMY, "a large machine")
        self.needed_bytes = plan_memory(facts, choices=Choices(), devices=(roomy,)).total_bytes
        self.total_bytes = round(self.needed_bytes * places)
        self.totals = totals or {"cpu": self.total_bytes}
        self.used_bytes = 0  # by others
        self.standby = standby or Standing()
        gauge = Gauge(lambda: self.read(), read_taken=lambda pid: {"cpu": self.standby.memory_bytes})
        surveyor = Surveyor(self.residents, standby=cast(Standby, self.standby), gauge=gauge)
        self.queue = AdmissionQueue(self.residents, surveyor=surveyor)

    def read(self) -> Sequence[Device]:
        ready = [slot.memory.needs for slot in self.residents.everyone if slot.is_ready]
        taken = {name: sum(needs.get(name, 0) for needs in ready) for name in self.totals}
        free = {name: max(0, size - taken[name] - self.used_bytes) for name, size in self.totals.items()}
        return [Device(name, size, free[name], "a device") for name, size in self.totals.items()]

    def slot(self, name: str, *, is_pinned: bool = False, **serving) -> Slot:
        located = LocatedModel(
            pk=1,
            model_name=name,
            home=Path("/x"),
            snapshot_path=Path("/x/y"),
            size_bytes=1,
            is_pinned=is_pinned,
            serving=ServingSettings(**serving),
            cache_location="primary",
            cache_path="/x",
        )
        slot = Slot(name, located=located)
        self.residents.add(slot)
        return slot

    async def load(self, slot: Slot) -> Slot:
        """Until it is in memory: there is no engine, so it is ready at once."""
        await self.queue.admit(slot, self.facts)
        slot.enter("ready")
        self.came.append(slot.model_name)
        self.residents.tell()
        return slot

    @property
    def names(self) -> set[str]:
        return {slot.model_name for slot in self.residents.everyone if slot.is_ready}


@pytest.fixture
def facts(tiny_folder: Path) -> ModelFacts:
    return read_facts(tiny_folder)


async def asked(house: House, slot: Slot) -> "asyncio.Task[Slot]":
    """Once it is decided about."""
    task = asyncio.create_task(house.load(slot))
    slot.loading = cast("asyncio.Task[EngineProcess]", task)
    await until(lambda: task.done() or slot.stage.reason)
    return task


async def test_what_never_fits_is_refused_with_the_numbers(facts) -> None:
    house = House(facts, places=0.6)
    with pytest.raises(InsufficientMemory, match=r"m needs \d+ MB on cpu .*, and \d+ MB of \d+ MB are free") as refused:
        await house.load(house.slot("m"))
    figures = refused.value.details
    assert figures["needed_bytes"] > figures["free_bytes"] == house.total_bytes
    assert figures["devices"]["cpu"] == {name: figures[name] for name in ("needed_bytes", "free_bytes")}
    assert not house.queue.waiting


async def test_models_come_side_by_side_and_the_idle_one_leaves_for_the_third(facts) -> None:
    house = House(facts, places=2.5)
    first, second = house.slot("first"), house.slot("second")
    await house.load(first)
    await house.load(second)
    assert house.names == {"first", "second"}
    first.load_seconds, second.load_seconds = 60, 2
    await house.load(house.slot("third"))
    assert house.names == {"first", "third"}  # the one that takes a minute to load again stayed


async def test_a_pinned_model_never_leaves(facts) -> None:
    house = House(facts, places=1.5)
    await house.load(house.slot("pinned", is_pinned=True))
    with pytest.raises(InsufficientMemory, match="pinned is pinned"):
        await house.load(house.slot("m"))
    assert house.names == {"pinned"}


async def test_who_waits_for_a_busy_model_stands_in_line_and_says_so(facts) -> None:
    house = House(facts, places=1.5)
    busy = await house.load(house.slot("busy"))
    with busy.in_use():
        waiting = [await asked(house, house.slot(name)) for name in ("a", "b")]
        a, b = house.queue.waiting
        assert (a.stage.name, a.stage.position, b.stage.position) == ("queued", 1, 2)
        assert "busy" in a.stage.reason and str(a.stage) == "queued, number 1 in line"
    house.residents.tell()
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert house.came == ["busy", "a", "b"] and house.names == {"b"}


async def test_a_model_in_constant_use_keeps_nobody_out_for_ever(facts, monkeypatch) -> None:
    monkeypatch.setattr("inference.scheduler.PATIENCE_SECONDS", 0.2)
    house = House(facts, places=1.5)
    busy = await house.load(house.slot("busy"))
    with busy.in_use():
        waiting = await asked(house, house.slot("m"))
        await asyncio.sleep(1.3)
        assert house.residents.slots.get("busy") is None and busy in house.residents.leaving
        later = await asked(house, house.slot("busy"))  # who asks for it now waits behind the other
        assert [slot.model_name for slot in house.queue.waiting] == ["m", "busy"]
    house.residents.end(busy)
    await asyncio.wait_for(waiting, 5)
    await asyncio.wait_for(later, 5)
    assert house.names == {"busy"}


async def test_who_gives_up_leaves_the_line(facts) -> None:
    house = House(facts, places=1.5)
    busy = await house.load(house.slot("busy"))
    with busy.in_use():
        first, second = await asked(house, house.slot("a")), await asked(house, house.slot("b"))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert [slot.stage.position for slot in house.queue.waiting] == [1]
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
    assert not house.queue.waiting


async def test_memory_that_a_loading_model_was_promised_is_not_promised_twice(facts) -> None:
    house = House(facts, places=1.5)
    loading = house.slot("loading")
    await house.queue.admit(loading, facts)
    loading.enter("reading")
    waiting = await asked(house, house.slot("m"))
    assert not waiting.done() and house.queue.waiting
    loading.enter("ready")
    house.residents.tell()
    await asyncio.wait_for(waiting, 5)


async def test_the_engine_on_standby_is_as_good_as_free_but_makes_no_machine_larger(facts) -> None:
    needed_bytes = House(facts).needed_bytes
    house = House(facts, places=0.5, standby=Standing(needed_bytes))
    with pytest.raises(InsufficientMemory):
        await house.load(house.slot("m"))
    house = House(facts, places=1.2, standby=Standing(needed_bytes // 2))
    house.used_bytes = house.total_bytes - needed_bytes * 2 // 3
    await house.load(house.slot("n"))


async def test_a_model_that_waits_for_memory_is_taken_out_of_the_line_at_once(facts) -> None:
    house = House(facts, places=1.5)
    busy = await house.load(house.slot("busy"))
    with busy.in_use():
        slot = house.slot("m")
        loading = await asked(house, slot)
        async with asyncio.timeout(BUSY_SECONDS):
            await house.residents.end(slot)  # as an unload and the end of the pool do
        assert loading.cancelled() and not house.queue.waiting and house.names == {"busy"}


async def test_a_refusal_says_the_same_numbers_to_people_and_to_programs(facts) -> None:
    house = House(facts, places=1.5)
    loading = house.slot("loading", is_pinned=True)
    await house.queue.admit(loading, facts)  # it has taken nothing yet, and what it was promised is not free
    with pytest.raises(InsufficientMemory) as refused:
        await house.load(house.slot("m"))
    free_bytes = refused.value.details["free_bytes"]
    assert free_bytes == house.total_bytes - house.needed_bytes
    assert f"and {format_bytes(free_bytes)} of " in refused.value.message


async def test_what_was_free_is_known_of_a_model_that_was_admitted(facts) -> None:
    house = House(facts, places=1.5)
    slot = await house.load(house.slot("m"))
    assert slot.free_bytes == house.total_bytes and slot.memory_bytes == house.needed_bytes


class SlowHouse(House):
    """What it has read, it tells when it may."""

    def __init__(self, facts: ModelFacts, **more) -> None:
        self.has_read, self.may_tell = threading.Event(), threading.Event()
        self.may_tell.set()
        super().__init__(facts, **more)

    def read(self) -> Sequence[Device]:
        devices = super().read()
        self.has_read.set()
        assert self.may_tell.wait(10)
        return devices


async def test_who_goes_while_the_devices_are_read_is_not_counted_as_there_and_gone(facts) -> None:
    house = SlowHouse(facts, places=1.5)
    busy = await house.load(house.slot("busy"))
    house.may_tell.clear()
    house.has_read.clear()
    loading = asyncio.create_task(house.load(house.slot("m")))
    await until(house.has_read.is_set)
    await house.residents.end(busy)
    house.may_tell.set()
    await loading
    assert house.names == {"m"}


class RobbedHouse(House):
    """When the idle model has left its GPU, another program takes half of what it gave back."""

    def read(self) -> Sequence[Device]:
        if "idle" in self.came and "idle" not in self.residents.slots:
            self.totals = self.totals | {"cuda:0": self.totals["cuda:1"] - self.needed_bytes // 2}
        return super().read()


async def test_who_made_others_leave_and_still_waits_keeps_nobody_from_another_device(facts) -> None:
    choices = {"parallel_requests": 1, "context_length": 256}
    roomy = [Device(name, ROOMY, ROOMY, "a device") for name in ("cpu", "cuda:0", "cuda:1")]
    size = plan_memory(facts, choices=Choices(device="cuda:0", **choices), devices=roomy).needs["cuda:0"]
    house = RobbedHouse(facts, totals={"cpu": ROOMY, "cuda:0": size * 22 // 10, "cuda:1": size * 22 // 10})
    house.needed_bytes = size
    _, busy = [await house.load(house.slot(name, device="cuda:0", **choices)) for name in ("idle", "busy")]
    with busy.in_use():
        first = await asked(house, house.slot("first", device="cuda:0", **choices))
        assert not first.done() and house.names == {"busy"}
        other = await asked(house, house.slot("other", device="cuda:1", **choices))
        assert other.done() and not first.done()
    house.residents.tell()
    await asyncio.wait_for(first, 5)
    assert house.names == {"first", "other"}
