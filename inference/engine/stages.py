"""How a model gets ready, on the model thread: [standby ->] importing -> reading -> warming -> ready."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from inference.engine.backend import EngineSettings, Loading, Ready, Stage
from inference.engine.reading import ReadAhead, count_free_bytes
from inference.engine.runner import Runner
from inference.engine.snapshot import check_code, check_snapshot, list_weights


class ModelLoad:
    """`await_settings` may block: until there is an order, a standby warms up what all models need. `warmed` is set
    when that is done."""

    def __init__(self, await_settings: Callable[[], EngineSettings], *, is_standby: bool = False) -> None:
        self.warmed = threading.Event()
        self._await_settings = await_settings
        self._is_standby = is_standby
        self._stage: Stage = "importing"
        self._seconds: dict[str, float] = {}
        self._read_ahead: ReadAhead | None = None

    @property
    def state(self) -> Loading:
        if self._read_ahead is None:
            return Loading(self._stage)
        return Loading(self._stage, self._read_ahead.bytes_done, self._read_ahead.bytes_total)

    def run(self) -> tuple[Runner, Ready]:
        """Raises LoadError, or whatever the libraries raise."""
        if self._is_standby:
            _warm_libraries()
        self.warmed.set()
        settings = self._await_settings()
        with self._enter("importing"):
            check_snapshot(settings.model_path)
            if settings.remote_code:
                check_code(Path(settings.model_path), allowed=settings.remote_code)
            reading = self._read_ahead = ReadAhead(list_weights(settings.model_path), free_bytes=count_free_bytes())
            reading.start()
            # They import torch: only now, and only on this thread.
            from inference.engine.loading import load_model
            from inference.engine.runners import start_runner
        with self._enter("reading"):
            reading.wait_if_slow()
            loaded = load_model(settings)
            reading.stop()
        with self._enter("warming"):
            runner = start_runner(loaded, settings=settings)
        seconds = {stage: round(each, 3) for stage, each in self._seconds.items()}
        ready = Ready(
            loaded.facts, runner.facts, load_seconds=round(sum(self._seconds.values()), 3), stage_seconds=seconds
        )
        return runner, ready

    @contextmanager
    def _enter(self, stage: Stage) -> Iterator[None]:
        self._stage = stage
        started = time.monotonic()
        yield
        self._seconds[stage] = time.monotonic() - started


def _warm_libraries() -> None:
    from inference.engine.warmth import warm_libraries

    warm_libraries()
