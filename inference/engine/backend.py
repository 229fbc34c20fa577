"""What the HTTP side and a backend say to each other: token ids, events and states. No torch, no HTTP."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Stage = Literal["importing", "reading", "warming"]
STAGES: tuple[Stage, ...] = ("importing", "reading", "warming")


class LoadError(Exception):
    """The model cannot be served: the message is one sentence that says why."""


@dataclass(frozen=True)
class EngineSettings:
    """`context_length` None is the model's own; `dtype` and `device` may be `auto`."""

    model_path: str
    model_name: str
    context_length: int | None = None
    dtype: str = "auto"
    device: str = "auto"


@dataclass(frozen=True)
class Loading:
    stage: Stage


@dataclass(frozen=True)
class Ready:
    context_length: int
    device: str
    dtype: str
    parameters: int
    weights_bytes: int
    load_seconds: float
    stage_seconds: dict[str, float]


@dataclass(frozen=True)
class Sampling:
    """How one token is chosen. None = what the model's own generation_config says. `temperature` 0 is greedy."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    top_logprobs: int | None = None
    """None = no logprobs at all, 0 = the chosen token's alone."""


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural logarithms of the probabilities that the model gave, before any penalty or temperature."""

    chosen: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Token:
    """`is_end`: an end-of-text token, counted but never shown."""

    id: int
    is_end: bool = False
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True)
class Finished:
    reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Failed:
    """`message` is a sentence for the client, without a traceback."""

    message: str


Event = Token | Finished | Failed


@dataclass(frozen=True, eq=False)
class Generation:
    """One sequence to generate. After `cancel` its events no longer matter, and none may come."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling
    on_event: Callable[[Event], None]
    """Called on the model thread; must not block."""
    cancelled: threading.Event = field(default_factory=threading.Event)


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that the HTTP side uses."""

    chat_template: Any
    bos_token_id: int | None

    def __call__(self, text: str, /, *, add_special_tokens: bool = ...) -> Any: ...

    def apply_chat_template(self, conversation: Any, /, *, tokenize: bool, add_generation_prompt: bool) -> Any: ...

    def decode(self, token_ids: Sequence[int], /, *, skip_special_tokens: bool = ...) -> Any: ...

    def convert_ids_to_tokens(self, token_id: int, /) -> Any: ...


class Backend(Protocol):
    """A model that generates. Its methods are quick and called on the event loop; its work is on its own thread."""

    name: str

    def start(self) -> None:
        """Begins to load. A model that cannot load ends the process with exit code 3."""

    def get_state(self) -> Loading | Ready: ...

    def get_tokenizer(self) -> Tokenizer:
        """Only once the state is Ready."""

    def submit(self, generation: Generation) -> None: ...

    def cancel(self, generation: Generation) -> None:
        """A running one stops within a token or two, a queued one never starts. Twice is fine."""

    def count(self) -> tuple[int, int]:
        """(active, queued) generations."""

    def stop(self) -> None:
        """Fails what is queued or running with the reason that the engine stops."""
