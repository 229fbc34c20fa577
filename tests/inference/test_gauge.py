"""Reading the devices beside the event loop. A driver that hangs is a function that does not return."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from inference.gauge import Gauge
from inference.places import Device
from tests.inference.conftest import BUSY_SECONDS
from tests.inference.pooling import until

MACHINE = (Device("cpu", 64, 60, "main memory"), Device("cuda:0", 24, 20, "a GPU"))
LIMIT_SECONDS = 0.2


class Driver:
    """Answers at once, or not before it is let go. Counts the threads that wait for it."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0

    def read(self) -> tuple[Device, ...]:
        self.asked += 1
        assert self.answers.wait(20)
        return MACHINE


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.answers.set()


def make_gauge(driver: Driver) -> Gauge:
    return Gauge(driver.read, limit_seconds=LIMIT_SECONDS)


async def test_it_tells_what_there_is_and_who_has_it(driver) -> None:
    reading = await make_gauge(driver).read([os.getpid(), 2**22 + 1])
    assert reading.devices == MACHINE
    assert reading.taken[os.getpid()]["cpu"] > 10**6 and reading.taken[2**22 + 1] == {}


async def test_the_event_loop_goes_on_while_a_driver_starts(driver) -> None:
    driver.answers.clear()
    gauge = Gauge(driver.read, limit_seconds=60)
    reading = asyncio.create_task(gauge.read([]))
    await until(lambda: driver.asked)  # this loop is not held up
    driver.answers.set()
    assert (await reading).devices == MACHINE


async def test_while_a_driver_hangs_the_main_memory_counts_and_one_thread_waits(driver, caplog) -> None:
    gauge = make_gauge(driver)
    driver.answers.clear()
    with caplog.at_level(logging.WARNING):
        began = time.monotonic()
        (main_memory,) = (await gauge.read([os.getpid()])).devices
        assert time.monotonic() - began >= LIMIT_SECONDS
        assert main_memory.name == "cpu" and main_memory.total_bytes > 10**6
        assert "the driver of its GPUs does not answer" in main_memory.label
        began = time.monotonic()
        readings = [await gauge.read([os.getpid()]) for _ in range(20)]
        assert time.monotonic() - began < 20 * LIMIT_SECONDS  # nobody waits for it again
    assert all(len(each.devices) == 1 and each.taken[os.getpid()]["cpu"] > 10**6 for each in readings)
    assert driver.asked == 1 and caplog.text.count("driver does not answer") == 1


async def test_when_the_driver_answers_again_its_gpus_count_again(driver, caplog) -> None:
    gauge = make_gauge(driver)
    driver.answers.clear()
    assert len((await gauge.read([])).devices) == 1
    driver.answers.set()
    await until(lambda: gauge._look.done())
    assert (await gauge.read([])).devices == MACHINE and driver.asked == 2


async def test_who_gives_up_leaves_a_look_that_the_next_one_waits_for(driver) -> None:
    gauge = Gauge(driver.read, limit_seconds=60)
    driver.answers.clear()
    first = asyncio.create_task(gauge.read([]))
    await until(lambda: driver.asked)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(gauge.read([]))
    await asyncio.sleep(0)
    assert driver.asked == 1
    driver.answers.set()
    async with asyncio.timeout(BUSY_SECONDS):
        assert (await second).devices == MACHINE
    assert driver.asked == 2  # what the first one asked is older than this question


async def test_what_goes_wrong_is_the_askers_error_and_the_next_one_asks_anew() -> None:
    troubles = [OSError("no /proc")]

    def read() -> tuple[Device, ...]:
        if troubles:
            raise troubles.pop()
        return MACHINE

    gauge = Gauge(read)
    with pytest.raises(OSError, match="no /proc"):
        await gauge.read([])
    assert (await gauge.read([])).devices == MACHINE


def test_a_driver_that_hangs_keeps_no_process_from_ending() -> None:
    script = (
        "import asyncio, time; from inference.gauge import Gauge;"
        "asyncio.run(Gauge(lambda: time.sleep(600), limit_seconds=0.1).read([])); print('over')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "over\n"
