"""What the model thread asks of a loaded model, however it generates."""

from collections.abc import Sequence
from typing import Protocol

from inference.engine.backend import Generation, RunnerFacts, Tokenizer


class Runner(Protocol):
    """Every call comes from the model thread. `capacity`: generations at once; `steps` grows with all progress."""

    tokenizer: Tokenizer
    capacity: int
    steps: int

    @property
    def facts(self) -> RunnerFacts: ...

    def admit(self, generation: Generation) -> None: ...

    def drop(self, generation: Generation) -> None:
        """It was cancelled: nothing more is told, and nothing more done for it."""

    def step(self) -> Sequence[Generation]:
        """Sends tokens and Finished to generations. Returns those that have ended."""

    def recover(self) -> Sequence[Generation]:
        """After a step that raised: those that are lost with it. The others go on with the next step."""
