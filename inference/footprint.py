"""How many bytes a model takes: its weights, its cache, and room to work. Pure.

The cache is the paged one of transformers' batching, or that of one plain `generate` where a model cannot be batched.
The work of a step depends on how attention reads the cache: see `count_work`.
"""

from dataclasses import dataclass
from math import ceil, lcm

from inference.engine.sizes import PAGE_TOKENS_CPU, PAGE_TOKENS_GPU, STEP_TOKENS_CPU, STEP_TOKENS_GPU
from inference.facts import ModelFacts
from inference.layers import Layers
from inference.weights import TensorGroup

PAGE_TOKENS = max(PAGE_TOKENS_CPU, PAGE_TOKENS_GPU)
"""A cache of so many tokens, or a multiple, is whole pages everywhere."""
ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_TRASH_SECTORS = 2  # for what padding writes
_FLOATS = {"F64", "F32", "F16", "BF16"}
_SMALL_FLOATS = {"F8_E4M3", "F8_E5M2"}
# bitsandbytes: 8 bits a value; 4 bits and a float32 scale for 64 values.
_QUANTIZED_BYTES = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
# 16 bytes of pairs and one of scale, and each byte of pairs is two values.
_MXFP4_VALUES = 2 * 16 / 17
_STATE_BYTES = 4
_LOGITS_BYTES = 4
_LOGITS_COPIES = 3  # as the model gave them, shifted, and as weights to draw from
_MLP_COPIES = 3  # gate, up, and their product
_INDEX_BYTES = 8


@dataclass(frozen=True, slots=True)
class Load:
    """How a model is loaded. `quantization`: none, 8bit or 4bit."""

    dtype: str
    quantization: str
    is_gpu: bool
    is_batched: bool
    context_length: int
    parallel_requests: int
    kv_tokens: int

    @property
    def item_bytes(self) -> int:
        return ITEM_BYTES[self.dtype]

    @property
    def page_tokens(self) -> int:
        return PAGE_TOKENS_GPU if self.is_gpu else PAGE_TOKENS_CPU

    @property
    def step_tokens(self) -> int:
        """So many go through the model at once; `generate` takes a prompt as a whole."""
        if not self.is_batched:
            return self.context_length
        return max(STEP_TOKENS_GPU if self.is_gpu else STEP_TOKENS_CPU, self.parallel_requests)


def can_batch(facts: ModelFacts) -> bool:
    """Whether paged batching knows such a cache: keys and values of all tokens or of a window, in equal parts."""
    return facts.architecture.layers.is_plain and not facts.architecture.is_latent


def count_weights(facts: ModelFacts, *, load: Load) -> int:
    is_mxfp4 = facts.architecture.quantization_method == "mxfp4"
    return round(sum(_count_group(group, load=load, is_mxfp4=is_mxfp4) for group in facts.loaded_groups))


def count_kv_tokens(layers: Layers, *, length: int) -> int:
    """The tokens of the whole model that take the room of one sequence of this length: where some layers look back a
    window only, they are fewer. (Where all do, transformers takes no request that is longer than the cache.) Whole
    pages, which are handed out in whole sectors."""
    kinds = [(layers.full, length), (layers.sliding, min(length, layers.window) if layers.full else length)]
    pages = [count * ceil(tokens / PAGE_TOKENS) for count, tokens in kinds]
    sector_pages = _count_sector_pages(layers)
    sectors = sum(ceil(each / sector_pages) for each in pages)
    return ceil(sectors * sector_pages / (layers.full + layers.sliding)) * PAGE_TOKENS


def count_cache(facts: ModelFacts, *, load: Load) -> int:
    return _count_pages(facts, load=load) if load.is_batched else _count_one_sequence(facts, load=load)


def count_work(facts: ModelFacts, *, load: Load) -> int:
    """The largest moment of a step: of attention, MLP and logits only one part is there at a time.

    In batches on a CPU, models that attend to everything read one request's pages at a time. Others, and GPUs, read
    those of all requests at once, repeat them for each head, and mask what is not a request's own.
    """
    reads_all = load.is_batched and (load.is_gpu or facts.architecture.layers.sliding > 0)
    readable = load.kv_tokens + load.step_tokens if reads_all else load.context_length
    repeats = 0 if load.is_batched and not reads_all else facts.architecture.heads
    masks = _count_masks(facts, load=load, readable=readable) if reads_all else 0
    attention = _count_attention(facts, load=load, readable=readable, repeats=repeats)
    return masks + max(attention, _count_mlp(facts, load=load), _count_logits(facts, load=load))


def _count_group(group: TensorGroup, *, load: Load, is_mxfp4: bool) -> float:
    if group.dtype in _SMALL_FLOATS:
        return group.size_bytes if load.is_gpu else group.values * load.item_bytes
    if group.dtype not in _FLOATS:
        return group.size_bytes * _MXFP4_VALUES * load.item_bytes if is_mxfp4 else group.size_bytes
    if group.kind == "linear" and load.quantization in _QUANTIZED_BYTES:
        return group.values * _QUANTIZED_BYTES[load.quantization]
    return group.values * load.item_bytes


def _count_pages(facts: ModelFacts, *, load: Load) -> int:
    architecture = facts.architecture
    sector_pages = _count_sector_pages(architecture.layers)
    pages = ceil(load.kv_tokens / load.page_tokens) * (architecture.layers.full + architecture.layers.sliding)
    sectors = ceil(pages / sector_pages) + _TRASH_SECTORS
    return sectors * sector_pages * load.page_tokens * architecture.kv_values * load.item_bytes


def _count_sector_pages(layers: Layers) -> int:
    """Pages are handed out in sectors, which hold a whole number of blocks of each kind of layer."""
    return lcm(*(count for count in (layers.full, layers.sliding) if count))


def _count_one_sequence(facts: ModelFacts, *, load: Load) -> int:
    """A layer's cache grows by being copied, so one layer is there twice."""
    architecture = facts.architecture
    layers = architecture.layers
    longest = load.context_length if layers.full else min(load.context_length, layers.window)
    tokens = layers.count_cached(load.context_length) + longest
    states = layers.recurrent * layers.state_values * _STATE_BYTES
    return tokens * architecture.kv_values * load.item_bytes + states


def _count_masks(facts: ModelFacts, *, load: Load, readable: int) -> int:
    """With their indices made once, for the largest step: one for each kind of layer."""
    kinds = bool(facts.architecture.layers.full) + bool(facts.architecture.layers.sliding)
    return kinds * readable * (load.step_tokens * load.item_bytes + _INDEX_BYTES)


def _count_attention(facts: ModelFacts, *, load: Load, readable: int, repeats: int) -> int:
    """The new tokens' queries, keys and values, and the keys and values that are read for them. Who reads one request
    at a time makes a mask for it."""
    shape = facts.architecture
    new = load.step_tokens * (shape.hidden_size + (shape.heads + 2 * shape.kv_heads) * shape.head_dim)
    read = 2 * readable * (repeats + shape.kv_heads) * shape.head_dim
    mask = 0 if repeats else load.step_tokens * readable
    return load.item_bytes * (new + read + mask)


def _count_mlp(facts: ModelFacts, *, load: Load) -> int:
    shape = facts.architecture
    return load.item_bytes * load.step_tokens * (shape.hidden_size + _MLP_COPIES * shape.intermediate_size)


def _count_logits(facts: ModelFacts, *, load: Load) -> int:
    return load.parallel_requests * facts.architecture.vocab_size * _LOGITS_BYTES * _LOGITS_COPIES
