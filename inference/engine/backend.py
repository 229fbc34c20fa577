"""What the HTTP side and a backend say to each other: token ids, events and states. No torch, no HTTP."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Stage = Literal["importing", "reading", "warming"]
BackendName = Literal["batching", "generate"]
Reason = Literal["stop", "length"]
DEFAULT_PARALLEL_REQUESTS = 8


class LoadError(Exception):
    """The model cannot be served: the message is one sentence that says why."""


@dataclass(frozen=True)
class EngineSettings:
    """`context_length` None is the model's own, `kv_tokens` None what one context needs, or a little more.

    `dtype`, `device` and `backend` may be `auto`; `quantization` is none, 8bit or 4bit. `remote_code`: the Python files
    of the model that may be run, with their hashes; mostly none.
    """

    model_path: str
    model_name: str
    context_length: int | None = None
    parallel_requests: int = DEFAULT_PARALLEL_REQUESTS
    kv_tokens: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    quantization: str = "none"
    backend: str = "auto"
    remote_code: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Loading:
    """Bytes of the weights that are in memory, of all there are."""

    stage: Stage
    bytes_done: int = 0
    bytes_total: int = 0


@dataclass(frozen=True)
class ModelFacts:
    """`device`: cpu, cuda:0, or balanced. `weights_by_device` in bytes."""

    device: str
    dtype: str
    parameters: int
    weights_by_device: Mapping[str, int]


@dataclass(frozen=True)
class RunnerFacts:
    """`backend_reason`: why not `batching`, as a sentence, or "". `words`: token ids from here on have no weights.
    `kv_tokens` are those of all requests together, and `kv_bytes` what their paged cache takes of its device, on the
    CPU only as it is used. Without one both are 0."""

    backend: BackendName
    context_length: int
    parallel_requests: int
    words: int
    kv_tokens: int = 0
    kv_bytes: int = 0
    kv_device: str = ""
    backend_reason: str = ""


@dataclass(frozen=True)
class Ready:
    model: ModelFacts
    runner: RunnerFacts
    load_seconds: float
    stage_seconds: Mapping[str, float]

    def count_memory(self) -> dict[str, dict[str, int]]:
        """For each device its `weights_bytes` and `kv_bytes`."""
        memory = {name: {"weights_bytes": size, "kv_bytes": 0} for name, size in self.model.weights_by_device.items()}
        if self.runner.kv_bytes:
            memory[self.runner.kv_device]["kv_bytes"] = self.runner.kv_bytes
        return memory


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
    reason: Reason


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

    def send(self, event: Event) -> None:
        """Who has left is told nothing."""
        if not self.cancelled.is_set():
            self.on_event(event)


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that the HTTP side uses."""

    chat_template: Any
    bos_token_id: int | None

    def __hash__(self) -> int: ...

    def __call__(self, text: str, /, *, add_special_tokens: bool = ...) -> Any: ...

    def apply_chat_template(self, conversation: Any, /, *, tokenize: bool, add_generation_prompt: bool) -> Any: ...

    def decode(self, token_ids: Sequence[int], /, *, skip_special_tokens: bool = ...) -> Any: ...

    def convert_ids_to_tokens(self, token_id: int, /) -> Any: ...


@dataclass(frozen=True)
class Load:
    """Generations that have begun, and those that wait. `steps` counts what the model has done: it grows as long as
    there is progress."""

    active: int
    queued: int
    steps: int

    @property
    def is_idle(self) -> bool:
        return not (self.active or self.queued)


class Backend(Protocol):
    """A model that generates. Its methods are quick and called on the event loop; its work is on its own thread."""

    def get_state(self) -> Loading | Ready: ...

    def get_tokenizer(self) -> Tokenizer:
        """Only once the state is Ready."""

    def submit(self, generation: Generation) -> None: ...

    def cancel(self, generation: Generation) -> None:
        """A running one stops within a token or two, a queued one never starts. Twice is fine."""

    def get_load(self) -> Load: ...

    def stop(self) -> None:
        """Fails what is queued or running with the reason that the engine stops."""
