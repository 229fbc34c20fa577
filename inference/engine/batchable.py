"""Whether a model can be batched: reasons against it that its config shows, and a trial for unproven kinds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.engine.batching_hooks import PagedBatches, has_exchangeable_attention, list_unpaged_layers
from inference.engine.loading import ONLY_GENERATE_KNOWS, LoadedModel

# Kinds whose batched tokens are compared with those of `generate` in tests/inference/engine/test_kinds.py.
PROVEN_KINDS = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3", "olmo2", "granite", "gemma", "smollm3"})

_ROPES_OF_THE_LONGEST = ("dynamic", "longrope")
_TRIAL_TOKENS, _OTHER_TOKENS = 12, 7
_TOLERANCE = 0.05
_QUANTIZED_TOLERANCE = 0.2
"""Values of 8 bits are rounded in another way beside others: by 7 % of a random model's logits. What reads wrong pages
is off by more than half."""


class Unbatchable(Exception):
    """The message is a sentence that says why."""


def find_obstacle(loaded: LoadedModel, *, context_length: int) -> str:
    """A sentence, or "" if the config shows none."""
    return next(_list_obstacles(loaded, context_length=context_length), "")


def _list_obstacles(loaded: LoadedModel, *, context_length: int) -> Iterator[str]:
    model, config = loaded.model, loaded.model.config
    if config.is_encoder_decoder:
        yield "It has an encoder beside its decoder."
    if loaded.placement.device == "balanced":
        yield "Its layers are spread over several GPUs, and a paged cache lies on one."
    for layer_type in list_unpaged_layers(model):
        yield f"It has layers of the type {layer_type}, for which there is no paged cache."
    if not has_exchangeable_attention(model):
        yield f"The attention of {type(model).__name__} cannot be exchanged for one that reads pages."
    for name in ONLY_GENERATE_KNOWS:
        if getattr(model.generation_config, name, None):
            yield f"Its generation_config sets {name}, which only plain generate knows."
    yield from _list_rope_obstacles(config.get_text_config(), context_length=context_length)


def _list_rope_obstacles(config: Any, *, context_length: int) -> Iterator[str]:
    """Some models turn their positions by the longest sequence of a batch, which changes the others'."""
    given = getattr(config, "rope_parameters", None) or {}
    by_layer = [each for each in given.values() if isinstance(each, Mapping)]
    for rope in by_layer or [given]:
        limit = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        if rope.get("rope_type") in _ROPES_OF_THE_LONGEST and context_length > limit:
            yield (
                f"Its positions ({rope['rope_type']}) depend on the longest sequence of a batch beyond {limit} tokens; "
                f"with a context length of {limit} it could be batched."
            )


class Trial:
    """Compares the logits of a batched prompt, read in two parts and beside another one, with those of a plain pass.

    Made before the model's attention is exchanged.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._tolerance = _QUANTIZED_TOLERANCE if loaded.placement.quantized_bits else _TOLERANCE
        words = min(1000, loaded.model.config.get_text_config().vocab_size)
        self._prompt = [(7 * number + 11) % words for number in range(_TRIAL_TOKENS)]
        self._found: dict[str, Tensor] = {}
        with torch.inference_mode():
            plain = loaded.model(torch.tensor([self._prompt], device=loaded.device), use_cache=False).logits
        self._wanted = plain[0, -1].float()

    def check(self, batches: PagedBatches) -> None:
        """Raises Unbatchable if the batched logits are others."""
        with torch.inference_mode():
            self._run(batches)
        difference = float((self._found["trial"] - self._wanted).norm() / self._wanted.norm())
        if not difference < self._tolerance:
            raise Unbatchable(
                f"In a trial its batched logits were {difference:.0%} off those of a plain pass, so it is not batched."
            )

    def _run(self, batches: PagedBatches) -> None:
        batches.add("other", prompt_ids=self._prompt[:_OTHER_TOKENS], max_new_tokens=_TRIAL_TOKENS)
        batches.add("trial", prompt_ids=self._prompt, max_new_tokens=2)
        while "trial" not in self._found:
            if not batches.step(self._keep, most_tokens=_OTHER_TOKENS + _TRIAL_TOKENS // 2):
                raise Unbatchable("In a trial transformers found nothing to do, so it is not batched.")
        for name in ("trial", "other"):
            batches.cancel(name)
        batches.step(self._keep, most_tokens=1)

    def _keep(self, logits: Tensor, names: Sequence[str]) -> Sequence[int]:
        self._found |= {name: row.clone() for name, row in zip(names, logits, strict=True)}
        return [0] * len(names)
