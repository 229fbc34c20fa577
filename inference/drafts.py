"""One model, one place, one context length: what the plan would be there. Pure."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from inference.engine.dtypes import choose_dtype
from inference.engine.sizes import DEFAULT_KV_TOKENS
from inference.facts import ModelFacts
from inference.footprint import (
    PAGE_TOKENS,
    Load,
    can_batch,
    count_cache,
    count_kv_tokens,
    count_weights,
    count_work,
)
from inference.places import Choices, Place, Share

DEFAULT_CONTEXT_LENGTH = 8192
DEFAULT_PARALLEL_REQUESTS = 16
SHORTEST_CONTEXT_LENGTH = 2048

# Measured: an engine that has run a tiny model, and what a tokenizer takes for each byte of its file.
RUNTIME_BYTES = 380 * 10**6
TOKENIZER_FACTOR = 12
_WORK_SLACK = 0.2  # what allocators hold back
# Measured on an H200 with torch for CUDA 13: the host's part was 1.10 to 1.14 GB; of the GPU the context takes 0.65 GB
# (cards with fewer cores: less), and kernels and cuBLAS 0.15 to 0.2 GB once they have run.
GPU_HOST_BYTES = 1200 * 10**6
CUDA_CONTEXT_BYTES = 850 * 10**6
_GPU_SLACK = 0.03  # of the weights too: torch rounds each block up

# Above what an engine needs: two chat templates may grow by 2 GB each before they are stopped; and a thread has 8 MB of
# stack and an arena, and each processor has a few threads.
_ROOM_BYTES = 5 * 10**9
_ROOM_BYTES_PER_PROCESSOR = 64 * 10**6


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The words and numbers for an engine's command line, and what it will take on each device.

    `kv_tokens` are those of the whole model: where some layers look back a window only, a context needs fewer.
    `fits`: there, once those that may leave have left. `notes`, and `ways_out` of one that does not fit, are sentences.
    """

    context_length: int
    parallel_requests: int
    kv_tokens: int
    device: str
    dtype: str
    quantization: str
    shares: Mapping[str, Share]
    fits: bool = True
    notes: tuple[str, ...] = ()
    ways_out: tuple[str, ...] = ()

    @property
    def needs(self) -> dict[str, int]:
        """Bytes by device."""
        return {name: share.total_bytes for name, share in self.shares.items()}

    @property
    def total_bytes(self) -> int:
        return sum(self.needs.values())

    def limit_writable(self, *, files_bytes: int, processors: int) -> int | None:
        """How much its engine may write to, files included, which are mapped as if it would: what goes beyond is a
        mistake or an attack, and must not bring down others. None with a GPU: its driver maps what nobody has."""
        if set(self.shares) != {"cpu"}:
            return None
        return self.total_bytes + files_bytes + _ROOM_BYTES + processors * _ROOM_BYTES_PER_PROCESSOR


@dataclass(frozen=True, slots=True)
class Draft:
    """What a plan would be with this context at this place."""

    facts: ModelFacts
    choices: Choices
    place: Place
    context_length: int

    @property
    def is_batched(self) -> bool:
        """Layers on several GPUs cannot share one paged cache."""
        return can_batch(self.facts) and self.place.word != "balanced"

    @property
    def parallel_requests(self) -> int:
        return (self.choices.parallel_requests or DEFAULT_PARALLEL_REQUESTS) if self.is_batched else 1

    @property
    def with_least_cache(self) -> MemoryPlan:
        return self.make_plan(kv_tokens=self._least_kv_tokens)

    def fit(self, *, after_others_left: bool) -> MemoryPlan | None:
        """With as large a cache as is free, up to what the parallel requests can use; if others have to leave, with one
        for a single whole context."""

        def count_missing(kv_tokens: int) -> int:
            shares = self._count_shares(self._describe_load(kv_tokens))
            return self.place.count_missing(shares, after_others_left=after_others_left)

        least = self._least_kv_tokens
        sizes = range(least, (least if after_others_left else self._most_kv_tokens) + 1, PAGE_TOKENS)
        fitting = bisect_left(sizes, 1, key=count_missing)
        return self.make_plan(kv_tokens=sizes[fitting - 1]) if fitting else None

    @property
    def _least_kv_tokens(self) -> int:
        layers = self.facts.architecture.layers
        return count_kv_tokens(layers, length=self.context_length) if self.is_batched else self.context_length

    @property
    def _most_kv_tokens(self) -> int:
        return max(self._least_kv_tokens, min(self.parallel_requests * self._least_kv_tokens, DEFAULT_KV_TOKENS))

    def make_plan(self, *, kv_tokens: int) -> MemoryPlan:
        load = self._describe_load(kv_tokens)
        return MemoryPlan(
            context_length=self.context_length,
            parallel_requests=self.parallel_requests,
            kv_tokens=kv_tokens,
            device=self.place.word,
            dtype=load.dtype,
            quantization=load.quantization,
            shares=self._count_shares(load),
            notes=tuple(self._find_notes(kv_tokens)),
        )

    def _describe_load(self, kv_tokens: int) -> Load:
        is_quantized_already = bool(self.facts.architecture.quantization_method)
        return Load(
            dtype=choose_dtype(
                self.choices.dtype,
                stored=self.facts.stored_dtype,
                device=self.place.word,
                cpu_flags=self.place.devices[0].flags,
            ),
            quantization="none" if is_quantized_already or not self.choices.is_quantized else self.choices.quantization,
            is_gpu=self.place.is_gpu,
            is_batched=self.is_batched,
            context_length=self.context_length,
            parallel_requests=self.parallel_requests,
            kv_tokens=kv_tokens,
        )

    def _count_shares(self, load: Load) -> Mapping[str, Share]:
        """Of several GPUs each has as many layers as the others, or one less."""
        layers = self.facts.architecture.layers.count
        part = ceil(layers / len(self.place.devices)) / layers
        weights_bytes = ceil(part * count_weights(self.facts, load=load))
        kv_bytes = ceil(part * count_cache(self.facts, load=load))
        work_bytes = round((1 + _WORK_SLACK) * count_work(self.facts, load=load))
        tokenizer_bytes = TOKENIZER_FACTOR * self.facts.tokenizer_bytes
        if self.place.host is None:
            overhead_bytes = RUNTIME_BYTES + tokenizer_bytes + work_bytes
            return {self.place.word: Share(weights_bytes, kv_bytes, overhead_bytes)}
        overhead_bytes = CUDA_CONTEXT_BYTES + work_bytes + round(_GPU_SLACK * weights_bytes)
        share = Share(weights_bytes, kv_bytes, overhead_bytes)
        shares = {device.name: share for device in self.place.devices}
        return shares | {self.place.host.name: Share(0, 0, GPU_HOST_BYTES + tokenizer_bytes)}

    def _find_notes(self, kv_tokens: int) -> Iterator[str]:
        own, chosen = self.facts.architecture.max_positions, self.choices.context_length
        if own and chosen and chosen > own:
            yield f"The model knows no more than {own} tokens of context, and {chosen} were chosen: it gets {own}."
        wished = chosen or list_contexts(self.facts, choices=self.choices)[0]
        if self.context_length < min(wished, own or wished):
            yield f"Memory is short: the context has {self.context_length} tokens instead of {wished}."
        if self.is_batched and kv_tokens < self._most_kv_tokens:
            yield f"Memory is short: all requests together have {kv_tokens} tokens instead of {self._most_kv_tokens}."
        if not self.is_batched and (self.choices.parallel_requests or 1) > 1:
            yield "It answers one request after the other: its kind of cache, or its place, cannot be shared."
        method = self.facts.architecture.quantization_method
        if method == "mxfp4":
            yield "Its weights are stored as mxfp4 and need four times as much: they are expanded when they are loaded."
        elif method and self.choices.is_quantized:
            yield f"Its weights are quantized already ({method}), and stay so."
        yield from self.facts.assumptions


def list_contexts(facts: ModelFacts, *, choices: Choices) -> list[int]:
    """The chosen one; else the usual one and its halves. Never more than the model's own limit."""
    own = facts.architecture.max_positions
    if choices.context_length:
        return [min(choices.context_length, own or choices.context_length)]
    lengths = [min(own or DEFAULT_CONTEXT_LENGTH, DEFAULT_CONTEXT_LENGTH)]
    while lengths[-1] // 2 >= SHORTEST_CONTEXT_LENGTH:
        lengths.append(lengths[-1] // 2)
    return lengths
