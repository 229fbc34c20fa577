"""Loads a model and decides how it is run: all requests together, if transformers can do that with this model."""

import gc
import sys
import traceback

import torch

from inference.engine.backend import EngineSettings
from inference.engine.batchable import PROVEN_KINDS, Trial, Unbatchable, find_obstacle
from inference.engine.batching import BatchingRunner
from inference.engine.endings import is_out_of_memory
from inference.engine.generate import GenerateRunner
from inference.engine.loading import LoadedModel

Runner = BatchingRunner | GenerateRunner


def start_runner(loaded: LoadedModel, *, settings: EngineSettings) -> Runner:
    """Falls back to one request at a time, with the reason, whatever keeps the model from being batched."""
    usual_attention = loaded.model.config._attn_implementation
    try:
        if settings.backend == "generate":
            raise Unbatchable("It was asked for (--backend generate).")
        return _start_batching(loaded, settings=settings)
    except Unbatchable as error:
        reason = str(error)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        traceback.print_exc(file=sys.stderr)
        reason = f"transformers cannot batch it: {str(error) or type(error).__name__}"
    loaded.model.set_attn_implementation(usual_attention)
    gc.collect()  # the cache of a batch that failed is a part of a circle
    torch.cuda.empty_cache()
    return GenerateRunner(loaded, reason=reason)


def _start_batching(loaded: LoadedModel, *, settings: EngineSettings) -> BatchingRunner:
    context_length = min(loaded.context_length, settings.kv_tokens or loaded.context_length)
    if obstacle := find_obstacle(loaded, context_length=context_length):
        raise Unbatchable(obstacle)
    is_proven = loaded.model.config.model_type in PROVEN_KINDS and loaded.device.type == "cpu"
    trial = None if is_proven else Trial(loaded)
    with torch.inference_mode():
        runner = BatchingRunner(loaded, settings=settings)
    if trial:
        trial.check(runner.batches)
    return runner
