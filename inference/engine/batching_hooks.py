"""All that is known of the private parts of transformers' continuous batching: its scheduler, its paged cache with
prefix sharing, and its forward pass are used; its thread, its queues and its sampling are not.

    add, cancel -> [waiting] -> step: prepare, forward, choose (ours), update -> finished ids

tests/inference/engine/test_batching_hooks.py fails when another version changes what is touched here.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching import cache, input_outputs
from transformers.generation.continuous_batching.model_runner import infer_max_single_request_tokens
from transformers.utils.import_utils import is_flash_attn_2_available

from inference.engine.attention import PagedAttention, Span, make_span
from inference.engine.lazy_memory import LazyZeros
from inference.engine.sizes import PAGE_TOKENS_CPU, PAGE_TOKENS_GPU

Choose = Callable[[Tensor, Sequence[str]], Sequence[int]]

_FULL_ATTENTION = "full_attention"


@dataclass(frozen=True)
class BatchSizes:
    """`step_tokens`: at most so many tokens go through the model at once, prompts and answers together; no fewer than
    there are requests."""

    kv_tokens: int
    parallel_requests: int
    step_tokens: int


class PagedBatches:
    """Not for several threads. Building it raises whatever transformers raises for a model that it cannot batch."""

    def __init__(self, model: Any, *, sizes: BatchSizes, eos_token_ids: Sequence[int]) -> None:
        self._model = model
        self._eos_token_ids = list(eos_token_ids)
        page_tokens = PAGE_TOKENS_CPU if model.device.type == "cpu" else PAGE_TOKENS_GPU
        self._manager = model.init_continuous_batching(
            GenerationConfig(do_sample=False, eos_token_id=-1),  # type: ignore[no-untyped-call]
            ContinuousBatchingConfig(
                page_size=page_tokens,
                num_blocks=ceil(sizes.kv_tokens / page_tokens),
                max_batch_tokens=sizes.step_tokens,
                max_requests_per_batch=sizes.parallel_requests,
                max_memory_percent=1.0,  # the caller has planned
                use_async_batching=False,
                auto_switch_to_flash=model.device.type != "cpu" and is_flash_attn_2_available(),
            ),
        )
        self._attention = self._take_over_attention()
        with LazyZeros(), _planned_memory(model.device):
            self._processor = self._manager._create_batch_processor()
        self._take_over_sampling()
        self._processor.warmup(model)
        self.capacity_tokens: int = infer_max_single_request_tokens(self._processor.cache)
        """The most tokens that one request can have, prompt and answer together."""
        if self._attention:
            self._read_by_request(self._attention)

    @property
    def kv_bytes(self) -> int:
        return int(self._processor.cache.cache_tensor.nbytes)

    @property
    def kv_tokens(self) -> int:
        return int(self._processor.cache.num_blocks * self._manager.continuous_batching_config.page_size)

    @property
    def scheduled_ids(self) -> list[str]:
        """The requests of the last step."""
        return [each.state.request_id for each in self._processor.inputs_and_outputs.requests_in_batch]

    def add(self, request_id: str, *, prompt_ids: Sequence[int], max_new_tokens: int) -> None:
        self._manager.add_request(
            list(prompt_ids), request_id, max_new_tokens=max_new_tokens, eos_token_id=self._eos_token_ids
        )

    def cancel(self, request_id: str) -> None:
        """Its pages are free from the next step on; one that has finished may be cancelled too.

        transformers lets nobody in while one waits who had to give up his pages, until another finishes. Who leaves
        makes as much room.
        """
        self._manager.cancel_request(request_id)
        self._processor.scheduler.block_new_requests = False

    def step(self, choose: Choose, *, most_tokens: int) -> int:
        """Runs the model once, on `most_tokens` at most, if there is anything to do. Returns how many tokens it was.

        `choose` gets the logits, (requests, words) in float32, of the requests that get a token now; none may be.
        """
        processor = self._processor
        processor.max_batch_tokens = min(most_tokens, processor.cache.max_batch_tokens)
        if not processor.prepare_next_batch():
            return 0
        batch = processor.inputs_and_outputs
        if self._attention:
            self._attention.begin(self._list_spans())
        processor._generation_step(self._model)
        ids = [each.state.request_id for each in batch.requests_in_batch if each.has_new_token]
        if ids:
            tokens = choose(self._logits[: len(ids)], ids)
            batch.output_ids[0, : len(ids)] = torch.tensor(tokens, dtype=batch.output_ids.dtype)
        processor.update_batch()
        self._make_room()
        return int(batch.num_q_tokens)

    def forget_all(self) -> None:
        """After a step that failed: nothing waits or runs any more."""
        self._processor._update_tp_group_state()  # empties the manager's queues
        self._processor.reset()

    def _make_room(self) -> None:
        """transformers keeps the pages of who has ended, for prompts that begin alike. Who is in a batch gets them when
        there are no others, but who waits to be let in would not."""
        processor = self._processor
        has_budget = processor.inputs_and_outputs.num_q_tokens < processor.max_batch_tokens
        if has_budget and processor.scheduler.waiting_requests and not processor.scheduler.block_new_requests:
            processor.cache.evict_cached_blocks()

    def _take_over_sampling(self) -> None:
        runner, router = self._processor.model_runner, self._processor.output_router
        if runner.pad_inputs:
            words = self._model.get_output_embeddings().out_features
            self._logits = torch.empty(
                self._manager.continuous_batching_config.max_requests_per_batch, words, device=self._model.device
            )
            runner._sample = self._copy_logits
        else:
            runner._sample = self._keep_logits
        router.deliver = router.deliver_batch = _ignore

    def _keep_logits(self, scores: Tensor, output_ids: Tensor) -> None:
        self._logits = scores[0]

    def _copy_logits(self, scores: Tensor, output_ids: Tensor) -> None:
        """With CUDA graphs it is called only while one is recorded; the copy is what is replayed."""
        self._logits[: scores.shape[1]].copy_(scores[0])

    def _take_over_attention(self) -> PagedAttention | None:
        """On the CPU, for models of which all layers attend to all tokens with torch's own function."""
        config = self._model.config.get_text_config()
        is_plain = set(cache.group_layers_by_attn_type(config)) == {_FULL_ATTENTION}
        if self._model.device.type != "cpu" or config._attn_implementation != "sdpa" or not is_plain:
            return None
        ours = PagedAttention()
        self._model.set_attn_implementation(ours.name)
        return ours

    def _read_by_request(self, ours: PagedAttention) -> None:
        """Told that nothing is to be read, transformers only writes the new keys and values; and it need not count
        whether all that the requests of a step read fits into its list of what to read."""
        paged = self._processor.cache
        ours.bind(paged.cache_allocators[_FULL_ATTENTION]._kv_page_views)
        paged.max_tokens_read = sys.maxsize
        self._processor.model_runner.maybe_pad_inputs = _read_nothing

    def _list_spans(self) -> list[Span]:
        allocator = self._processor.cache.cache_allocators[_FULL_ATTENTION]
        pages_apart = allocator.block_physical_stride // allocator.tokens_per_page
        spans: list[Span] = []
        for each in self._processor.inputs_and_outputs.requests_in_batch:
            length = each.state.position_offset
            blocks = allocator.block_table[each.state.request_id][: ceil(length / allocator.tokens_per_page)]
            pages = [block * pages_apart for block in blocks]
            start = spans[-1].end if spans else 0
            spans.append(make_span(start, new=each.query_length, length=length, pages=pages))
        return spans


def list_unpaged_layers(model: Any) -> list[str]:
    """Types of layers that the paged cache does not know."""
    layer_types = getattr(model.config.get_text_config(), "layer_types", None) or []
    return sorted(set(layer_types) - set(cache.ATTN_TYPE_TO_ALLOCATOR))


def has_exchangeable_attention(model: Any) -> bool:
    return bool(model._supports_attention_backend) and hasattr(model, "init_continuous_batching")


@contextmanager
def _planned_memory(device: torch.device) -> Iterator[None]:
    """transformers refuses a cache, also one on the CPU, that would not fit into what a GPU has free, and begins to use
    that GPU by looking. The caller has planned."""
    with (
        _exchanged(cache, "get_device_and_memory_breakdown", lambda: (device, sys.maxsize, 0, 0)),
        _exchanged(input_outputs, "get_available_devices", lambda: {"cpu"}),
    ):
        yield


@contextmanager
def _exchanged(module: ModuleType, name: str, function: Callable[[], Any]) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, original)


def _ignore(outputs: Any) -> None:
    """What transformers delivers was told already, token by token."""


def _read_nothing(query_tokens: int, read_tokens: int, use_decode_fast_path: bool) -> tuple[int, int]:  # noqa: FBT001
    return query_tokens, 0
