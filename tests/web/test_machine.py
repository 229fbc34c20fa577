"""What the machine does: nobody waits for a driver that hangs."""

import threading
import time

import psutil

from inference.gpus import GpuUse
from web.machine import GpuWatch, read_machine

CARD = GpuUse("RTX 3090", 24, 6)


def test_the_machine_is_the_one_we_are_on() -> None:
    machine = read_machine()
    assert machine.core_count == psutil.cpu_count()
    assert 0 < machine.memory.used_bytes < machine.memory.total_bytes <= psutil.virtual_memory().total
    assert 0 < machine.memory.percent <= 100 and 0 <= machine.cpu_percent <= 100


def test_the_first_look_waits_for_a_moment_and_the_next_one_for_nothing() -> None:
    watch = GpuWatch(lambda: (CARD,))
    assert watch.latest() == ((CARD,), False)


def test_a_driver_that_hangs_costs_one_thread_and_the_last_words_stay(monkeypatch) -> None:
    asked, answers = [], threading.Event()

    def read() -> tuple[GpuUse, ...]:
        asked.append(time.monotonic())
        if len(asked) > 1:
            answers.wait(30)
        return (CARD,)

    for name in ("_FRESH_SECONDS", "_SILENT_SECONDS"):
        monkeypatch.setattr(f"web.machine.{name}", 0.0)
    watch = GpuWatch(read)
    watch.latest()
    started = time.monotonic()
    found = [watch.latest() for _ in range(50)]
    assert time.monotonic() - started < 1 and len(asked) == 2
    assert found[-1] == ((CARD,), True)
    answers.set()


def test_a_driver_that_never_answered_is_waited_for_shortly() -> None:
    answers = threading.Event()
    watch = GpuWatch(lambda: (CARD,) if answers.wait(30) else ())
    started = time.monotonic()
    assert watch.latest() == ((), False)
    assert time.monotonic() - started < 2
    assert [watch.latest()[0] for _ in range(20)] == [()] * 20
    assert time.monotonic() - started < 2
    answers.set()
