"""Known model families as their makers publish them: the config, and the tensors that follow from it."""

from collections.abc import Iterator
from typing import Any

from inference.architecture import Hints, read_architecture
from inference.facts import ModelFacts
from inference.weights import DTYPE_BITS, Tensor, group_tensors

Config = dict[str, Any]


def family(name: str) -> ModelFacts:
    config, list_tensors = FAMILIES[name]
    layers = config.get("num_hidden_layers") or config["n_layer"]
    tensors = [tensor(*each) for each in list_tensors(config)]
    return ModelFacts(read_architecture(config, hints=Hints()), group_tensors(tensors, layers=layers))


def tensor(name: str, *shape: int, dtype: str = "BF16") -> Tensor:
    """`name` may end in "!" and a dtype."""
    name, _, given = name.partition("!")
    size = Tensor(name, given or dtype, shape, 0)
    return Tensor(name, size.dtype, shape, size.values * DTYPE_BITS[size.dtype] // 8)


def llama(config: Config) -> Iterator[tuple]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    yield from ends(config)
    for layer in layer_names(config):
        yield from attention(layer, config)
        for part in ("gate", "up", "down"):
            yield f"{layer}.mlp.{part}_proj.weight", hidden, inner


def experts(config: Config) -> Iterator[tuple]:
    """Of Mixtral and Qwen 3: each expert is a small MLP."""
    hidden = config["hidden_size"]
    count, inner = config["num_experts"], config["moe_intermediate_size"]
    yield from ends(config)
    for layer in layer_names(config):
        yield from attention(layer, config)
        yield f"{layer}.mlp.gate.weight", count, hidden
        for expert in range(count):
            for part in ("gate", "up", "down"):
                yield f"{layer}.mlp.experts.{expert}.{part}_proj.weight", hidden, inner


def deepseek(config: Config) -> Iterator[tuple]:
    """The first layer is dense; shared experts are linear layers as any."""
    hidden, heads, rank = config["hidden_size"], config["num_attention_heads"], config["kv_lora_rank"]
    rope, nope, value = config["qk_rope_head_dim"], config["qk_nope_head_dim"], config["v_head_dim"]
    yield from ends(config)
    for number, layer in enumerate(layer_names(config)):
        yield f"{layer}.self_attn.q_proj.weight", heads * (nope + rope), hidden
        yield f"{layer}.self_attn.kv_a_proj_with_mqa.weight", rank + rope, hidden
        yield f"{layer}.self_attn.kv_b_proj.weight", heads * (nope + value), rank
        yield f"{layer}.self_attn.o_proj.weight", hidden, heads * value
        inner = config["moe_intermediate_size"] * config["n_shared_experts"] if number else config["intermediate_size"]
        for part in ("gate", "up", "down"):
            yield f"{layer}.mlp.shared_experts.{part}_proj.weight", hidden, inner
            for expert in range(config["n_routed_experts"] if number else 0):
                yield f"{layer}.mlp.experts.{expert}.{part}_proj.weight", hidden, config["moe_intermediate_size"]


def gpt_oss(config: Config) -> Iterator[tuple]:
    """Experts in blocks of 32 values of 4 bits, with a scale each."""
    hidden, count = config["hidden_size"], config["num_local_experts"]
    yield from ends(config)
    for layer in layer_names(config):
        yield from attention(layer, config)
        for part, rows in (("gate_up", 2 * hidden), ("down", hidden)):
            yield f"{layer}.mlp.experts.{part}_proj_blocks!U8", count, rows, hidden // 32, 16
            yield f"{layer}.mlp.experts.{part}_proj_scales!U8", count, rows, hidden // 32
            yield f"{layer}.mlp.experts.{part}_proj_bias", count, rows


def falcon(config: Config) -> Iterator[tuple]:
    hidden = config["hidden_size"]
    yield "transformer.word_embeddings.weight", config["vocab_size"], hidden
    yield "lm_head.weight", config["vocab_size"], hidden
    for number in range(config["num_hidden_layers"]):
        layer = f"transformer.h.{number}"
        yield f"{layer}.self_attention.query_key_value.weight", hidden + 2 * 64, hidden
        yield f"{layer}.self_attention.dense.weight", hidden, hidden
        yield f"{layer}.mlp.dense_h_to_4h.weight", 4 * hidden, hidden
        yield f"{layer}.mlp.dense_4h_to_h.weight", hidden, 4 * hidden


def ends(config: Config) -> Iterator[tuple]:
    yield "model.embed_tokens.weight", config["vocab_size"], config["hidden_size"]
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", config["vocab_size"], config["hidden_size"]


def layer_names(config: Config) -> list[str]:
    return [f"model.layers.{number}" for number in range(config["num_hidden_layers"])]


def attention(layer: str, config: Config) -> Iterator[tuple]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim", hidden // heads)
    yield f"{layer}.self_attn.q_proj.weight", heads * size, hidden
    yield f"{layer}.self_attn.k_proj.weight", config["num_key_value_heads"] * size, hidden
    yield f"{layer}.self_attn.v_proj.weight", config["num_key_value_heads"] * size, hidden
    yield f"{layer}.self_attn.o_proj.weight", hidden, heads * size
    yield f"{layer}.input_layernorm.weight", hidden


def shape(layers: int, hidden: int, inner: int, heads: int, kv_heads: int, vocab: int, **more: Any) -> Config:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
        **more,
    }


DEEPSEEK = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
LITE = {"moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6}
FAMILIES: dict[str, tuple[Config, Any]] = {
    "Llama-3.1-8B": (shape(32, 4096, 14336, 32, 8, 128256), llama),
    "Llama-3.1-70B": (shape(80, 8192, 28672, 64, 8, 128256), llama),
    "LLaMA-7B": (shape(32, 4096, 11008, 32, 32, 32000), llama),
    "Qwen-7B": (shape(32, 4096, 11008, 32, 32, 151936), llama),
    "Qwen2.5-7B": (shape(28, 3584, 18944, 28, 4, 152064, sliding_window=131072, use_sliding_window=False), llama),
    "Qwen2.5-72B": (shape(80, 8192, 29568, 64, 8, 152064), llama),
    "Qwen3-30B-A3B": (
        shape(48, 2048, 6144, 32, 4, 151936, head_dim=128, num_experts=128, moe_intermediate_size=768),
        experts,
    ),
    "Mixtral-8x7B": (shape(32, 4096, 14336, 32, 8, 32000, num_experts=8, moe_intermediate_size=14336), experts),
    "Gemma-2-9B": (
        shape(42, 3584, 14336, 16, 8, 256000, head_dim=256, tie_word_embeddings=True, model_type="gemma2"),
        llama,
    ),
    "SmolLM2-1.7B": (shape(24, 2048, 8192, 32, 32, 49152, tie_word_embeddings=True), llama),
    "Falcon-7B": (shape(32, 4544, 18176, 71, 71, 65024, multi_query=True, max_position_embeddings=2048), falcon),
    "DeepSeek-V2-Lite": (shape(27, 2048, 10944, 16, 16, 102400, **DEEPSEEK, **LITE), deepseek),
    "DeepSeek-V3": (shape(61, 7168, 18432, 128, 128, 129280, **DEEPSEEK), ends),
    "gpt-oss-20b": (
        shape(
            *(24, 2880, 2880, 64, 8, 201088),
            head_dim=64,
            num_local_experts=32,
            sliding_window=128,
            quantization_config={"quant_method": "mxfp4"},
            layer_types=["sliding_attention", "full_attention"] * 12,
        ),
        gpt_oss,
    ),
}
