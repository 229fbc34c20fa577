"""Which of a model's layers remember what, as its config says: all tokens, a window of them, or a state. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_FULL = {"full_attention", "attention", "global", "global_attention"}
_SLIDING = {"sliding_attention", "local", "local_attention"}
_CHUNKED = {"chunked_attention"}
_BOTH = {"hybrid"}
_NOTHING = {"mlp", "moe", "none"}
# How often a layer sees everything, where the config leaves it to the code.
_SLIDING_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4, "gpt_oss": 2}
_RECURRENT = ("mamba", "rwkv", "falcon_mamba", "xlstm")


@dataclass(frozen=True, slots=True)
class Layers:
    """Counts of layers. `full` ones cache each token, `sliding` ones the last `window`, `recurrent` ones keep
    `state_values` numbers a sequence, whatever its length. `is_plain`: nothing but full and sliding attention."""

    count: int
    full: int
    sliding: int = 0
    window: int = 0
    recurrent: int = 0
    state_values: int = 0
    is_plain: bool = True

    def count_cached(self, tokens: int) -> int:
        """Tokens times layers that are kept of one sequence of this length."""
        return self.full * tokens + self.sliding * min(tokens, self.window)


def read_layers(config: Mapping[str, Any], *, count: int, window: int | None) -> Layers:
    """Never raises: what it does not know is taken for full attention, which needs the most."""
    types = _read_types(config, count=count, window=window)[: count - _count_shared(config, count=count)]
    counts = Counter(types)
    recurrent = sum(counts[kind] for kind in counts if kind not in _FULL | _SLIDING | _CHUNKED | _NOTHING)
    chunk = config.get("attention_chunk_size") if any(kind in counts for kind in _CHUNKED) else window
    windowed = sum(counts[kind] for kind in _SLIDING | _CHUNKED)
    has_window = isinstance(chunk, int) and chunk > 0
    return Layers(
        count=count,
        full=sum(counts[kind] for kind in _FULL | _BOTH) + (0 if has_window else windowed),
        sliding=windowed if has_window else 0,
        window=int(chunk) if has_window and chunk else 0,
        recurrent=recurrent,
        state_values=_count_state_values(config) if recurrent else 0,
        is_plain=all(kind in _FULL | _SLIDING for kind in counts),
    )


def _read_types(config: Mapping[str, Any], *, count: int, window: int | None) -> Sequence[str]:
    for name in ("layer_types", "layers_block_type"):
        given = config.get(name)
        if isinstance(given, list) and len(given) == count and all(isinstance(kind, str) for kind in given):
            return given
    if str(config.get("model_type")).startswith(_RECURRENT):
        return ["mamba"] * count
    if interval := _number(config, "full_attention_interval"):
        return ["linear_attention" if each % interval else "full_attention" for each in range(1, count + 1)]
    if period := _number(config, "attn_layer_period"):
        offset = _number(config, "attn_layer_offset")
        return ["attention" if each % period == offset else "mamba" for each in range(count)]
    return _read_windows(config, count=count, window=window)


def _read_windows(config: Mapping[str, Any], *, count: int, window: int | None) -> Sequence[str]:
    if window is None or config.get("use_sliding_window") is False:
        return ["full_attention"] * count
    if pattern := _number(config, "sliding_window_pattern") or _SLIDING_PATTERNS.get(str(config.get("model_type")), 0):
        return ["sliding_attention" if each % pattern else "full_attention" for each in range(1, count + 1)]
    full = min(count, _number(config, "max_window_layers")) if config.get("use_sliding_window") is True else 0
    return ["full_attention"] * full + ["sliding_attention"] * (count - full)


def _count_shared(config: Mapping[str, Any], *, count: int) -> int:
    """The last layers of Gemma 3n and its kin use the cache of earlier ones."""
    shared = _number(config, "num_kv_shared_layers")
    return shared if shared < count else 0


def _count_state_values(config: Mapping[str, Any]) -> int:
    """Of one layer and sequence, from the names that the families use; else a usual state of 128 a channel."""
    heads, keys, values = (
        _number(config, f"linear_{part}") for part in ("num_value_heads", "key_head_dim", "value_head_dim")
    )
    if heads * keys * values:
        return heads * keys * values + 4 * heads * (2 * keys + values)
    hidden = _number(config, "hidden_size") or _number(config, "d_model") or 4096
    inner = hidden * (_number(config, "mamba_expand") or _number(config, "expand") or 2)
    states = _number(config, "mamba_d_state") or _number(config, "state_size") or _number(config, "ssm_state_size")
    return inner * ((states or 128) + 4)


def _number(config: Mapping[str, Any], name: str) -> int:
    """0 for whatever is no sane number."""
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 10**6 else 0
