"""The model thread: it imports, reads, warms up and generates, and is the only one that computes.

    submitted -> queued -> active -> finished | failed
                    \\________\\____-> cancelled

One thread, from the import of torch on: each thread that computes gets its own team of OpenMP threads, and a second
team slows the first down for good.
"""

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence

from inference.engine.backend import Failed, Generation, Load, LoadError, Loading, Ready, Tokenizer
from inference.engine.endings import (
    BROKEN,
    LOAD_FAILED,
    Ending,
    explain_broken_thread,
    explain_load_error,
    find_ending,
)
from inference.engine.runner import Runner
from inference.engine.stages import ModelLoad

_STOPPING = Failed("The engine is stopping.")
_LAST_WORDS_SECONDS = 0.3


class ModelThread:
    """`on_ending` gets the reason why the process has to end, on the model thread, and should not return."""

    def __init__(self, load: ModelLoad, *, on_ending: Callable[[Ending], None]) -> None:
        self._load = load
        self._on_ending = on_ending
        self._ready: tuple[Runner, Ready] | None = None
        self._queue: deque[Generation] = deque()
        self._active: list[Generation] = []
        self._leaving: list[Generation] = []
        self._is_stopping = False
        self._changed = threading.Condition()

    def start(self) -> None:
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def get_state(self) -> Loading | Ready:
        return self._ready[1] if self._ready else self._load.state

    def get_tokenizer(self) -> Tokenizer:
        if self._ready is None:
            raise RuntimeError("The model is not loaded yet.")
        return self._ready[0].tokenizer

    def submit(self, generation: Generation) -> None:
        with self._changed:
            if self._is_stopping:
                generation.on_event(_STOPPING)
                return
            self._queue.append(generation)
            self._changed.notify()

    def cancel(self, generation: Generation) -> None:
        generation.cancelled.set()
        with self._changed:
            if generation in self._queue:
                self._queue.remove(generation)
            elif generation in self._active:
                self._leaving.append(generation)
                self._changed.notify()

    def get_load(self) -> Load:
        with self._changed:
            return Load(len(self._active), len(self._queue), steps=self._ready[0].steps if self._ready else 0)

    def stop(self) -> None:
        self._fail_all(_STOPPING)

    def _work(self) -> None:
        try:
            self._ready = runner, _ = self._load.run()
        except LoadError as error:
            self._on_ending(Ending(LOAD_FAILED, str(error)))
            return
        except Exception as error:  # noqa: BLE001 - libraries raise whatever they like; it ends with the reason
            self._on_ending(explain_load_error(error))
            return
        try:
            while True:
                self._take(runner)
                self._step(runner)
        except Ending as ending:
            self._give_up(ending)
        except Exception as error:  # noqa: BLE001 - without this thread nobody would ever be answered
            traceback.print_exc()
            self._give_up(explain_broken_thread(error))

    def _take(self, runner: Runner) -> None:
        """Waits until there is something to do; lets those go who have left, and in as many as there is room for."""
        with self._changed:
            while not (self._active or self._queue):
                self._changed.wait()
            left, self._leaving = self._leaving, []
            self._active = [each for each in self._active if each not in left]
            room = runner.capacity - len(self._active)
            arrived = [self._queue.popleft() for _ in range(min(room, len(self._queue)))]
            self._active += arrived
        for generation in left:
            runner.drop(generation)
        for generation in arrived:
            runner.admit(generation)

    def _step(self, runner: Runner) -> None:
        try:
            ended = runner.step() if self._active else []
        except Exception as error:  # noqa: BLE001 - whatever a model raises ends requests, and seldom the engine
            traceback.print_exc()
            sys.stderr.flush()
            ended = self._survive(runner, error)
        with self._changed:
            self._active = [each for each in self._active if each not in ended]

    def _survive(self, runner: Runner, error: Exception) -> Sequence[Generation]:
        """The generations that are lost, which have been told. Raises Ending if it cannot go on."""
        if ending := find_ending(error):
            raise ending
        try:
            lost = runner.recover()
        except Exception as second:
            traceback.print_exc()
            raise Ending(BROKEN, f"The model failed ({error}), and could not go on ({second}).") from second
        for generation in lost:
            generation.send(Failed(f"The model failed while it was generating ({type(error).__name__})."))
        return lost

    def _give_up(self, ending: Ending) -> None:
        self._fail_all(Failed(str(ending)))
        time.sleep(_LAST_WORDS_SECONDS)  # the events have to reach their clients
        self._on_ending(ending)

    def _fail_all(self, reason: Failed) -> None:
        """Nothing is taken in any more."""
        with self._changed:
            self._is_stopping = True
            generations = [*self._queue, *self._active]
        for generation in generations:
            generation.send(reason)
            self.cancel(generation)
