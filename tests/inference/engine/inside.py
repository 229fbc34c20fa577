"""A model in this process, and what it generates without an engine around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch  # noqa: TID253

from inference.engine.backend import EngineSettings, Event, Failed, Finished, Generation, Sampling, Token
from inference.engine.batching import BatchingRunner
from inference.engine.loading import LoadedModel, load_model
from inference.engine.pace import Pace
from inference.engine.runner import Runner
from tests.inference.engine.conftest import DEVICE

GREEDY = Sampling(temperature=0)


@dataclass
class Told:
    """A generation, and what was told of it."""

    prompt_ids: Sequence[int]
    tokens: int = 20
    sampling: Sampling = GREEDY
    events: list[Event] = field(default_factory=list)
    on_token: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.generation = Generation(tuple(self.prompt_ids), self.tokens, self.sampling, self._receive)

    def _receive(self, event: Event) -> None:
        self.events.append(event)
        self.on_token()

    @property
    def ids(self) -> list[int]:
        return [event.id for event in self.events if isinstance(event, Token)]

    @property
    def end(self) -> Event | None:
        return next((event for event in self.events if isinstance(event, Finished | Failed)), None)


def load(folder: Path, **settings: Any) -> LoadedModel:
    return load_model(EngineSettings(str(folder), "tiny", device=DEVICE, **settings))


def make_runner(folder: Path, *, parallel_requests: int = 8, kv_tokens: int = 4096) -> BatchingRunner:
    """With a model of its own: its attention is exchanged for one that reads this runner's cache."""
    chosen = EngineSettings(
        str(folder), "tiny", parallel_requests=parallel_requests, kv_tokens=kv_tokens, device=DEVICE
    )
    loaded = load_model(chosen)
    with torch.inference_mode():
        return BatchingRunner(loaded, settings=chosen)


def run(runner: Runner, asked: Sequence[Told], *, most_steps: int = 5000) -> None:
    """As the model thread does: as many at once as the runner takes, until all have ended."""
    waiting: list[Told] = list(asked)
    active: list[Told] = []
    for _ in range(most_steps):
        while waiting and len(active) < runner.capacity:
            active.append(waiting.pop(0))
            runner.admit(active[-1].generation)
        ended = runner.step()
        active = [each for each in active if each.generation not in ended]
        if not (waiting or active):
            return
    raise AssertionError(f"{len(active)} generations did not end in {most_steps} steps.")


def step_until(runner: Runner, is_so: Callable[[], bool], *, most_steps: int = 2000) -> None:
    for _ in range(most_steps):
        if is_so():
            return
        runner.step()
    raise AssertionError(f"It was not so after {most_steps} steps.")


class Counting(Pace):
    """Counts the tokens that went through the model."""

    def __init__(self) -> None:
        super().__init__(most_tokens=512)
        self.tokens = 0

    def note(self, *, tokens: int, seconds: float) -> None:
        self.tokens += tokens


def run_plainly(loaded: LoadedModel, prompt_ids: Sequence[int], *, tokens: int = 20) -> list[int]:
    """What transformers' own `generate` says, greedily, up to and with an end token."""
    prompt = torch.tensor([list(prompt_ids)], device=DEVICE)
    with torch.inference_mode():
        output = loaded.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, do_sample=False
        )
    return [int(each) for each in output[0, len(prompt_ids) :]]


def make_prompt(seed: int, *, length: int, words: int = 500) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [int(each) for each in torch.randint(3, words, (length,), generator=generator)]
