"""Signs of life of long work: about twice a second, however fast it goes."""

import time
from collections.abc import Callable
from typing import Any

Say = Callable[..., None]
_EVERY_SECONDS = 0.5


class Teller:
    def __init__(self, say: Say, *, stage: str) -> None:
        self._say, self._stage, self._told_at = say, stage, time.monotonic()

    def tell(self, **figures: Any) -> None:
        if time.monotonic() - self._told_at > _EVERY_SECONDS:
            self._say(stage=self._stage, **figures)
            self._told_at = time.monotonic()
