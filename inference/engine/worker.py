"""The `generate` backend: one thread does all model work, one generation at a time, in the order of their arrival.

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
from collections.abc import Callable
from typing import Protocol

from inference.engine.backend import EngineSettings, Failed, Generation, LoadError, Loading, Ready, Stage, Tokenizer
from inference.engine.snapshot import check_snapshot

_STOPPING = Failed("The engine is stopping.")


class Runner(Protocol):
    """A loaded model; every call comes from the model thread."""

    tokenizer: Tokenizer
    context_length: int
    device: str
    dtype: str
    parameters: int
    weights_bytes: int

    def warm_up(self) -> None: ...

    def run(self, generation: Generation) -> None:
        """Sends tokens and Finished to the generation, or returns early once it is cancelled."""


class SerialBackend:
    """`on_load_error` gets a sentence, on the model thread, and should not return."""

    name = "generate"

    def __init__(self, settings: EngineSettings, *, on_load_error: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_load_error = on_load_error
        self._state: Loading | Ready = Loading("importing")
        self._runner: Runner | None = None
        self._queue: deque[Generation] = deque()
        self._active: Generation | None = None
        self._is_stopping = False
        self._changed = threading.Condition()

    def start(self) -> None:
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def get_state(self) -> Loading | Ready:
        return self._state

    def get_tokenizer(self) -> Tokenizer:
        if self._runner is None:
            raise RuntimeError("The model is not loaded yet.")
        return self._runner.tokenizer

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

    def count(self) -> tuple[int, int]:
        with self._changed:
            return int(self._active is not None), len(self._queue)

    def stop(self) -> None:
        with self._changed:
            self._is_stopping = True
            generations = [*self._queue, *([self._active] if self._active else [])]
        for generation in generations:
            generation.on_event(_STOPPING)
            self.cancel(generation)

    def _work(self) -> None:
        try:
            runner = self._load()
        except LoadError as error:
            self._on_load_error(str(error))
            return
        except Exception as error:  # noqa: BLE001 - libraries raise whatever they like; it ends with the reason
            self._on_load_error(_explain(error, model_path=self._settings.model_path))
            return
        while True:
            self._run(runner, generation=self._take())

    def _load(self) -> Runner:
        started = time.monotonic()
        seconds: dict[str, float] = {}
        check_snapshot(self._settings.model_path)
        from inference.engine.generate import load_runner  # imports torch: only now, and only on this thread

        seconds["importing"] = time.monotonic() - started
        self._enter("reading")
        runner = load_runner(self._settings)
        seconds["reading"] = time.monotonic() - started - sum(seconds.values())
        self._enter("warming")
        runner.warm_up()
        seconds["warming"] = time.monotonic() - started - sum(seconds.values())
        self._runner = runner
        self._state = _describe(runner, stage_seconds=seconds)
        return runner

    def _enter(self, stage: Stage) -> None:
        self._state = Loading(stage)

    def _take(self) -> Generation:
        with self._changed:
            self._active = None
            while not self._queue:
                self._changed.wait()
            self._active = self._queue.popleft()
            return self._active

    def _run(self, runner: Runner, *, generation: Generation) -> None:
        try:
            runner.run(generation)
        except Exception as error:  # noqa: BLE001 - whatever a model raises ends this generation, not the engine
            traceback.print_exc()
            sys.stderr.flush()
            generation.on_event(Failed(f"The model failed while it was generating ({type(error).__name__})."))


def _describe(runner: Runner, *, stage_seconds: dict[str, float]) -> Ready:
    return Ready(
        context_length=runner.context_length,
        device=runner.device,
        dtype=runner.dtype,
        parameters=runner.parameters,
        weights_bytes=runner.weights_bytes,
        load_seconds=round(sum(stage_seconds.values()), 3),
        stage_seconds={stage: round(seconds, 3) for stage, seconds in stage_seconds.items()},
    )


def _explain(error: Exception, *, model_path: str) -> str:
    first_line = next(iter(str(error).strip().splitlines()), "")
    return f"The model in {model_path} cannot be loaded: {type(error).__name__}: {first_line}".rstrip(": ")
