"""The thread of the model, with runners that fail in ways that no model should."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from inference.engine.backend import Event, Failed, Finished, Generation, Loading, Ready, Sampling
from inference.engine.endings import BROKEN, OUT_OF_MEMORY, Ending
from inference.engine.worker import ModelThread
from tests.inference.engine.conftest import wait_until

POISON, ENDLESS, USUAL = 666, 999, 5


class Runner:
    """Ends each generation in one step. `fails`: what raises once a generation of the length POISON was admitted."""

    capacity = 2
    steps = 0
    tokenizer: Any = None

    def __init__(self, fails: str, *, error: Exception) -> None:
        self._fails = fails
        self._error = error
        self._active: list[Generation] = []

    def admit(self, generation: Generation) -> None:
        self._active.append(generation)
        self._raise("admit")

    def drop(self, generation: Generation) -> None:
        self._raise("drop")
        self._active.remove(generation)

    def step(self) -> Sequence[Generation]:
        self._raise("step")
        ended = [each for each in self._active if each.max_new_tokens == USUAL]
        for each in ended:
            each.send(Finished("stop"))
            self._active.remove(each)
        return ended

    def recover(self) -> Sequence[Generation]:
        raise RuntimeError("no way back")

    def _raise(self, where: str) -> None:
        if where == self._fails and POISON in [each.max_new_tokens for each in self._active]:
            raise self._error


class Load:
    """Is done at once."""

    state = Loading("importing")

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def run(self) -> tuple[Runner, Any]:
        return self._runner, Ready(None, None, 0, {})


def ask(tokens: int, on_event: Callable[[Event], None]) -> Generation:
    return Generation((1,), tokens, Sampling(), on_event)


@pytest.mark.parametrize(
    ("fails", "error", "code", "reason"),
    [
        ("admit", RuntimeError("boom\nand more"), BROKEN, "The engine failed: RuntimeError: boom"),
        ("drop", KeyError("boom"), BROKEN, "The engine failed: KeyError: 'boom'"),
        ("admit", MemoryError(), OUT_OF_MEMORY, "The memory did not suffice"),
        ("step", MemoryError(), OUT_OF_MEMORY, "The memory did not suffice"),
        ("step", RuntimeError("boom"), BROKEN, "The model failed (boom), and could not go on (no way back)."),
    ],
)
def test_whatever_is_raised_on_the_thread_is_told_and_ends_the_process(
    fails: str, error: Exception, code: int, reason: str
) -> None:
    endings: list[Ending] = []
    told: list[Event] = []
    model = ModelThread(Load(Runner(fails, error=error)), on_ending=endings.append)
    model.start()
    poison = ask(POISON, print)
    model.submit(ask(ENDLESS, told.append))
    wait_until(lambda: model.get_load().active == 1)
    model.submit(poison)
    if fails == "drop":
        wait_until(lambda: model.get_load().active == 2)
        model.cancel(poison)
    wait_until(lambda: endings)
    (ending,) = endings
    assert ending.code == code
    assert str(ending).startswith(reason)
    model.submit(ask(USUAL, told.append))
    assert told == [Failed(str(ending)), Failed("The engine is stopping.")]
    wait_until(lambda: not [each for each in threading.enumerate() if each.name == "model"])
