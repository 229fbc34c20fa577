"""What the engine touches of transformers' private parts is as it was when it was read."""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers.generation.continuous_batching import cache, continuous_api, input_outputs, scheduler, utils  # noqa: TID253
from transformers.generation.continuous_batching.cache_allocators import full_attention  # noqa: TID253
from transformers.generation.continuous_batching.model_runner import ModelRunner, infer_max_single_request_tokens  # noqa: TID253
from transformers.generation.continuous_batching.offloading_manager import OffloadingManager  # noqa: TID253
from transformers.generation.continuous_batching.requests import RequestState  # noqa: TID253
from transformers.integrations.sdpa_attention import sdpa_attention_forward  # noqa: TID253

from tests.inference.engine.inside import make_runner

READ: dict[Callable[..., Any], str] = {
    continuous_api.ContinuousBatchProcessor.prepare_next_batch: "cbc297079d4a9591",
    continuous_api.ContinuousBatchProcessor._generation_step: "91e7d3b5bd328f31",
    continuous_api.ContinuousBatchProcessor.update_batch: "cbad955852af2e67",
    continuous_api.ContinuousBatchProcessor.reset: "d962a10133e055fb",
    continuous_api.ContinuousBatchProcessor._update_tp_group_state: "2731052eb9413443",
    continuous_api.ContinuousBatchingManager.add_request: "614fe428df5a446a",
    continuous_api.ContinuousBatchingManager.cancel_request: "b5561ad6d420759c",
    continuous_api.ContinuousBatchingManager._create_batch_processor: "cc0fca82818d2471",
    ModelRunner.compute_batch: "7d4ae3f3ba6393bf",
    ModelRunner._forward_process_and_sample: "e326cff070721010",
    ModelRunner._sample: "e366edcd1b7c57bc",
    ModelRunner.maybe_pad_inputs: "30fe4ba90d074052",
    infer_max_single_request_tokens: "e576e53bc8be27da",
    input_outputs.ContinuousBatchingIOs._setup_static_tensors: "cd1fe8b73d841076",
    input_outputs.ContinuousBatchingIOs.prepare_batch_tensors: "2d979073bbd4f215",
    input_outputs.ContinuousBatchingIOs.prepare_batch_update: "f2e488c1cea7563f",
    input_outputs.ContinuousBatchingIOs.get_model_kwargs: "ad765ba1a8e03b37",
    cache.PagedAttentionCache.__init__: "c64951fe6abbc732",
    cache.PagedAttentionMemoryHandler.get_available_memory: "3df7e6a7bc1c4d1a",
    cache.PagedAttentionCache.evict_cached_blocks: "8fc67c4b57a7cb8e",
    cache.PagedAttentionCache.update: "b2e32368cbfdf65a",
    cache.group_layers_by_attn_type: "655ae31372a0000e",
    full_attention.FullAttentionCacheAllocator.register_cache_tensor: "0c9818c5ca3c3e59",
    full_attention.FullAttentionCacheAllocator.update: "38ffee2b3818ed73",
    utils.get_device_and_memory_breakdown: "d40e185fd81fef8a",
    scheduler.Scheduler._process_candidates: "095deb6081af2d7a",
    scheduler.FIFOScheduler.schedule_batch: "15a13a70ff385794",
    scheduler.Scheduler.clear_cancelled_requests: "c3c5dd503929ae64",
    OffloadingManager.offload_requests: "750d6cb99a3a4ac4",
    RequestState.update_and_check_completion: "db53d0d16360ef22",
    RequestState.create_equivalent_initial_request: "da32ec325450e039",
    sdpa_attention_forward: "9be3d6b1f79abc00",
}


@pytest.mark.parametrize("function", READ, ids=lambda function: function.__qualname__)
def test_a_function_that_is_hooked_into_reads_as_it_did(function: Callable[..., Any]) -> None:
    """If it changed: read it again with inference/engine/batching_hooks.py beside it, then write down its new digest."""
    source = inspect.getsource(function)
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == READ[function]


def test_a_model_on_the_cpu_does_not_look_for_a_gpu(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To look at what a GPU has free takes some of it, and one that is full would be a reason to refuse."""

    def look() -> None:
        raise AssertionError("It looked.")

    monkeypatch.setattr(cache, "get_device_and_memory_breakdown", look)
    monkeypatch.setattr(input_outputs, "get_available_devices", look)
    make_runner(model_folder)
    assert {look} == {cache.get_device_and_memory_breakdown, input_outputs.get_available_devices}
