"""The queue for memory, on machines of a chosen size: slots without engines, real plans of a real model."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from inference.admission import AdmissionQueue
from inference.devices import Device
from inference.errors import InsufficientMemory
from inference.facts import ModelFacts, read_facts
from inference.memory import Choices, plan_memory
from inference.residents import Residents
from inference.slots import Slot
from inference.standby import Standby
from registry.locating import LocatedModel
from registry.serving import ServingSettings


@dataclass
class Standing:
    """An engine that waits, as far as the queue is concerned."""

    memory_bytes: int


class House:
    """Takes what is free at its word: whoever was admitted has all of its memory at once."""

    def __init__(self, facts: ModelFacts, *, places: float) -> None:
        self.facts = facts
        self.came: list[str] = []
        self.residents = Residents()
        self.standby = Standby(is_wanted=False)
        self.queue = AdmissionQueue(self.residents, standby=self.standby, read_devices=self.read)
        roomy = Device("cpu", 10**12, 10**12, "a large machine")
        self.needed_bytes = plan_memory(facts, choices=Choices(), devices=(roomy,)).total_bytes
        self.total_bytes = round(self.needed_bytes * places)

    def read(self) -> Sequence[Device]:
        taken = sum(slot.memory_bytes for slot in self.residents.everyone if slot.is_ready)
        return (Device("cpu", self.total_bytes, max(0, self.total_bytes - taken), "a small machine"),)

    def slot(self, name: str, *, is_pinned: bool = False, priority: int = 0) -> Slot:
        located = LocatedModel(
            pk=1,
            model_name=name,
            home=Path("/x"),
            snapshot_path=Path("/x/y"),
            size_bytes=1,
            is_pinned=is_pinned,
            serving=ServingSettings(priority=priority),
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
        self.residents.changed.set()
        return slot

    @property
    def names(self) -> set[str]:
        return {slot.model_name for slot in self.residents.everyone if slot.is_ready}


@pytest.fixture
def facts(tiny_folder: Path) -> ModelFacts:
    return read_facts(tiny_folder)


async def asked(house: House, slot: Slot) -> "asyncio.Task[Slot]":
    task = asyncio.create_task(house.load(slot))
    await asyncio.sleep(0.01)
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
    house.residents.changed.set()
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
    house.residents.changed.set()
    await asyncio.wait_for(waiting, 5)


async def test_the_engine_on_standby_is_as_good_as_free_but_makes_no_machine_larger(facts) -> None:
    house = House(facts, places=0.5)
    house.queue._standby = cast(Standby, Standing(house.needed_bytes))
    with pytest.raises(InsufficientMemory):
        await house.load(house.slot("m"))
    house = House(facts, places=1.2)
    free_bytes = round(house.needed_bytes * 0.5)
    house.queue.read_devices = lambda: (Device("cpu", house.total_bytes, free_bytes, "a machine"),)
    house.queue._standby = cast(Standby, Standing(house.total_bytes - free_bytes))
    await house.load(house.slot("n"))
