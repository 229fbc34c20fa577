"""What a config.json says about a model's shape, as far as memory goes. Pure.

A config is hostile input and often an odd one: a value that cannot be is replaced by a usual one, and that is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.layers import Layers, read_layers

_NESTS = ("text_config", "language_config", "llm_config", "decoder")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num")
_HEAD_DIM = ("head_dim", "kv_channels")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_INTERMEDIATE = ("intermediate_size", "n_inner", "ffn_hidden_size", "d_ff")
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "experts_per_token", "top_k_experts", "moe_topk")
_DTYPES = ("float64", "float32", "float16", "bfloat16")
_USUAL_LAYERS, _USUAL_HIDDEN, _USUAL_VOCABULARY, _USUAL_HEAD_DIM = 32, 4096, 128_000, 128


@dataclass(frozen=True, slots=True)
class Hints:
    """What the tensors say, for the case that the config does not. 0 = they do not either."""

    layers: int = 0
    hidden_size: int = 0
    vocab_size: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """`kv_values` is per token and caching layer, keys and values together; `kv_heads` 1 of a latent cache.
    `max_positions` None: the model has no limit of its own. `stored_dtype` "" and `quantization_method` "": not said.
    """

    model_type: str
    layers: Layers
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    kv_values: int
    is_latent: bool
    vocab_size: int
    max_positions: int | None
    is_tied: bool
    experts_per_token: int
    stored_dtype: str
    quantization_method: str
    assumptions: tuple[str, ...]


@dataclass
class Reader:
    """Looks values up in a config, and notes what it had to assume."""

    config: Mapping[str, Any]
    assumptions: list[str] = field(default_factory=list)

    def number(self, *names: str, most: int = 10**6) -> int | None:
        """The first of these names that has a whole number from 1 on. What is there and is not one is noted."""
        for name in names:
            value = self.config.get(name)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most:
                return value
            if value is not None and value is not False and value != 0:
                self.assumptions.append(f"{name} in the config is {shorten(value)}, which is no sane number: ignored.")
        return None

    def assume(self, *names: str, usual: int, most: int = 10**6) -> int:
        found = self.number(*names, most=most)
        if found is None:
            self.assumptions.append(f"config.json does not say its {names[0]}: {usual} is assumed.")
            return usual
        return found

    def word(self, *names: str) -> str:
        return next((value[:80] for name in names if isinstance(value := self.config.get(name), str)), "")


def read_architecture(config: Mapping[str, Any], *, hints: Hints) -> Architecture:
    """Never raises: see `assumptions`."""
    reader = Reader(_flatten(config))
    hidden = reader.assume(*_HIDDEN, usual=hints.hidden_size or _USUAL_HIDDEN)
    layers = reader.assume(*_LAYERS, usual=hints.layers or _USUAL_LAYERS, most=10_000)
    heads = reader.number(*_HEADS, most=10**5) or max(1, hidden // _USUAL_HEAD_DIM)
    head_dim = reader.number(*_HEAD_DIM, most=10**5) or max(1, hidden // heads)
    kv_heads = _read_kv_heads(reader, heads=heads)
    latent = _read_latent(reader)
    return Architecture(
        model_type=reader.word("model_type"),
        layers=read_layers(reader.config, count=layers, window=reader.number("sliding_window", most=10**9)),
        hidden_size=hidden,
        intermediate_size=reader.number(*_INTERMEDIATE) or 4 * hidden,
        heads=heads,
        kv_heads=1 if latent else kv_heads,
        head_dim=head_dim,
        kv_values=latent or 2 * kv_heads * head_dim,
        is_latent=latent > 0,
        vocab_size=reader.assume("vocab_size", usual=hints.vocab_size or _USUAL_VOCABULARY, most=10**8),
        max_positions=reader.number(*_POSITIONS, most=10**9),
        is_tied=config.get("tie_word_embeddings", reader.config.get("tie_word_embeddings")) is True,
        experts_per_token=reader.number(*_EXPERTS_PER_TOKEN, most=10**4) or 1,
        stored_dtype=_read_dtype(reader),
        quantization_method=_read_quantization(config),
        assumptions=tuple(reader.assumptions),
    )


def shorten(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number of more than 30 digits"
    return text if len(text) <= 60 else f"{text[:60]}..."


def _flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a model of pictures and text says about its language model comes first."""
    nested = next((inner for name in _NESTS if isinstance(inner := config.get(name), dict)), {})
    return {**config, **nested}


def _read_kv_heads(reader: Reader, *, heads: int) -> int:
    """Falcon and StarCoder say `multi_query` for one. A newer Falcon has few, and caches them once for every head."""
    if reader.config.get("new_decoder_architecture") is True:
        return heads
    if reader.config.get("multi_query") is True:
        return reader.number("multi_query_group_num", most=heads) or 1
    return reader.number(*_KV_HEADS, most=heads) or heads


def _read_latent(reader: Reader) -> int:
    """DeepSeek's attention caches one compressed vector a token, and the part that turns; 0 where there is none."""
    rank = reader.number("kv_lora_rank")
    return rank + (reader.number("qk_rope_head_dim", most=10**5) or 0) if rank else 0


def _read_dtype(reader: Reader) -> str:
    word = reader.word("dtype", "torch_dtype").removeprefix("torch.")
    return word if word in _DTYPES else ""


def _read_quantization(config: Mapping[str, Any]) -> str:
    given = config.get("quantization_config")
    method = given.get("quant_method") if isinstance(given, dict) else None
    return method[:80] if isinstance(method, str) else ""
