"""What a model folder says, from real files: shapes of many families, and folders that are odd, damaged or hostile."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.tiny_model import SIZES
from inference.architecture import Hints, read_architecture
from inference.facts import ModelFacts, describe, parse_facts, read_facts
from inference.weights import DTYPE_BITS, ModelUnreadable

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}
TENSORS = {
    "model.embed_tokens.weight": ("BF16", [100, 64]),
    "model.layers.0.self_attn.q_proj.weight": ("BF16", [64, 64]),
    "model.layers.1.mlp.experts.0.up_proj.weight": ("BF16", [128, 64]),
    "model.norm.weight": ("F32", [64]),
    "lm_head.weight": ("BF16", [100, 64]),
}


def write_weights(path: Path, tensors: dict[str, tuple[str, list[int]]], *, spare_bytes: int = 0) -> None:
    header, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        end = offset + math.prod(shape) * DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    write_header(path, header | {"__metadata__": {"format": "pt"}}, data_bytes=offset + spare_bytes)


def write_header(path: Path, header: Any, *, data_bytes: int = 0) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + data_bytes)


def write_model(folder: Path, config: Any = LLAMA, tensors: dict[str, tuple[str, list[int]]] = TENSORS) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    write_weights(folder / "model.safetensors", tensors)
    return folder


def values_of(facts: ModelFacts) -> dict[str, int]:
    return {group.kind: group.values for group in facts.loaded_groups}


def test_a_real_model_is_counted_to_the_last_parameter(tiny_folder: Path) -> None:
    facts = read_facts(tiny_folder)
    assert f"{facts.parameters:,} parameters" in (tiny_folder / "README.md").read_text()
    assert facts.architecture.layers.full == SIZES["tiny"].layers
    assert facts.architecture.max_positions == SIZES["tiny"].context_length
    assert (facts.stored_dtype, facts.assumptions) == ("float32", ())
    assert facts.bytes_by_dtype == {"F32": 4 * facts.parameters}
    assert facts.tokenizer_bytes == (tiny_folder / "tokenizer.json").stat().st_size


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model"], 100),
        (["vocab.json", "merges.txt", "tokenizer.model"], 200),
        (["tokenizer.model"], 100),
        ([], 0),
    ],
)
def test_a_tokenizer_is_as_large_as_the_files_that_are_read_of_it(
    tmp_path: Path, names: list[str], expected: int
) -> None:
    write_model(tmp_path)
    for name in names:
        (tmp_path / name).write_bytes(bytes(100))
    assert read_facts(tmp_path).tokenizer_bytes == expected


def test_tensors_are_told_apart_by_what_they_are_for(tmp_path: Path) -> None:
    facts = read_facts(write_model(tmp_path))
    assert values_of(facts) == {"embedding": 6400, "linear": 4096, "experts": 8192, "other": 64, "head": 6400}
    assert facts.bytes_by_dtype == {"BF16": 2 * (6400 + 4096 + 8192 + 6400), "F32": 4 * 64}


def test_a_tied_head_that_was_stored_is_not_counted_twice(tmp_path: Path) -> None:
    assert "head" not in values_of(read_facts(write_model(tmp_path, LLAMA | {"tie_word_embeddings": True})))


def test_layers_behind_the_last_are_not_loaded(tmp_path: Path) -> None:
    spare = TENSORS | {"model.layers.2.eh_proj.weight": ("BF16", [64, 128])}
    assert values_of(read_facts(write_model(tmp_path, tensors=spare)))["linear"] == 4096


def test_all_shards_of_the_index_are_read_and_nothing_else(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    write_weights(tmp_path / "model-00002-of-00002.safetensors", {"b.weight": ("BF16", [3, 3])})
    write_weights(tmp_path / "other.safetensors", {"c.weight": ("BF16", [1000, 1000])})
    shards = {f"t{number}": f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert values_of(read_facts(tmp_path))["linear"] == 4096 + 9


def shape_of(**config: Any) -> tuple[int, int, int, int]:
    """(values a token and layer, full layers, sliding layers, recurrent layers)"""
    shape = read_architecture({"vocab_size": 1000, **config}, hints=Hints())
    return shape.kv_values, shape.layers.full, shape.layers.sliding, shape.layers.recurrent


PLAIN = {"hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 12}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(PLAIN, (2 * 64, 12, 0, 0), id="multi-head"),
        pytest.param(PLAIN | {"num_key_value_heads": 2}, (2 * 2 * 8, 12, 0, 0), id="grouped"),
        pytest.param(PLAIN | {"head_dim": 32}, (2 * 8 * 32, 12, 0, 0), id="its own head_dim"),
        pytest.param(PLAIN | {"multi_query": True}, (2 * 8, 12, 0, 0), id="multi-query"),
        pytest.param(
            PLAIN | {"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 2},
            (2 * 64, 12, 0, 0),
            id="falcon 40b caches each head",
        ),
        pytest.param(PLAIN | {"kv_lora_rank": 512, "qk_rope_head_dim": 64}, (576, 12, 0, 0), id="latent"),
        pytest.param({"n_embd": 64, "n_head": 4, "n_layer": 3}, (2 * 64, 3, 0, 0), id="gpt-2's names"),
        pytest.param({"text_config": PLAIN, "vision_config": {"hidden_size": 1}}, (2 * 64, 12, 0, 0), id="nested"),
        pytest.param(PLAIN | {"sliding_window": 128}, (2 * 64, 0, 12, 0), id="all sliding"),
        pytest.param(PLAIN | {"sliding_window": 128, "use_sliding_window": False}, (2 * 64, 12, 0, 0), id="not used"),
        pytest.param(
            PLAIN | {"sliding_window": 128, "use_sliding_window": True, "max_window_layers": 8},
            (2 * 64, 8, 4, 0),
            id="the last layers slide",
        ),
        pytest.param(PLAIN | {"model_type": "gemma2", "sliding_window": 128}, (2 * 64, 6, 6, 0), id="gemma 2"),
        pytest.param(PLAIN | {"sliding_window": 128, "sliding_window_pattern": 6}, (2 * 64, 2, 10, 0), id="gemma 3"),
        pytest.param(
            PLAIN | {"layer_types": ["full_attention", "sliding_attention"] * 6, "sliding_window": 9},
            (2 * 64, 6, 6, 0),
            id="layer_types",
        ),
        pytest.param(PLAIN | {"full_attention_interval": 4}, (2 * 64, 3, 0, 9), id="linear attention"),
        pytest.param(PLAIN | {"attn_layer_period": 4, "attn_layer_offset": 2}, (2 * 64, 3, 0, 9), id="jamba"),
        pytest.param(PLAIN | {"model_type": "mamba2"}, (2 * 64, 0, 0, 12), id="mamba"),
        pytest.param(PLAIN | {"num_kv_shared_layers": 4}, (2 * 64, 8, 0, 0), id="shared caches"),
    ],
)
def test_shapes_of_many_families(config: dict[str, Any], expected: tuple[int, int, int, int]) -> None:
    assert shape_of(**config) == expected


def test_what_cannot_be_is_replaced_and_said(tmp_path: Path) -> None:
    odd = LLAMA | {"num_hidden_layers": "32", "hidden_size": -1, "vocab_size": 10**400, "num_key_value_heads": 9}
    facts = read_facts(write_model(tmp_path, odd))
    shape = facts.architecture
    assert (shape.layers.count, shape.hidden_size, shape.vocab_size, shape.kv_heads) == (2, 64, 100, 8)
    said = " ".join(facts.assumptions)
    assert "num_hidden_layers in the config is '32', which is no sane number" in said
    assert "a number of more than 30 digits" in said
    assert "hidden_size: 64 is assumed" in said


KEYS = (
    *LLAMA,
    *("sliding_window", "layer_types", "layers_block_type", "text_config", "kv_lora_rank", "qk_rope_head_dim"),
    *("multi_query", "head_dim", "quantization_config", "tie_word_embeddings", "num_kv_shared_layers"),
    *("full_attention_interval", "attn_layer_period", "attention_chunk_size", "linear_num_value_heads"),
    *("max_window_layers", "use_sliding_window", "sliding_window_pattern", "mamba_expand", "n_layer"),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([2, 4, "mamba"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=12))
def test_no_config_makes_it_fail(config: dict[str, Any]) -> None:
    shape = read_architecture(config, hints=Hints())
    numbers = (shape.hidden_size, shape.heads, shape.kv_heads, shape.head_dim, shape.kv_values, shape.vocab_size)
    assert all(0 < number <= 10**12 for number in numbers)
    layers = shape.layers
    assert 0 <= layers.count_cached(4096) <= layers.count * 4096
    assert min(layers.full, layers.sliding, layers.recurrent, layers.state_values) >= 0


BAD_HEADERS = {
    "no object": ["a"],
    "entry is no object": {"a": 1},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 4]}},
    "negative": {"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}},
    "beyond the file": {"a": {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}},
    "backwards": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
    "not its size": {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}},
    "infinite": {"a": {"dtype": "F32", "shape": [math.inf], "data_offsets": [0, 4]}},
    "many dimensions": {"a": {"dtype": "F32", "shape": [2**40] * 1000, "data_offsets": [0, 4]}},
    "huge numbers": {"a": {"dtype": "F32", "shape": [10**3000], "data_offsets": [0, 4]}},
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_header_that_lies_is_one_error_with_the_file_in_it(tmp_path: Path, name: str) -> None:
    write_model(tmp_path)
    write_header(tmp_path / "model.safetensors", BAD_HEADERS[name], data_bytes=8)
    with pytest.raises(ModelUnreadable, match=r"model\.safetensors is not a readable safetensors file"):
        read_facts(tmp_path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=st.binary(max_size=64))
def test_no_bytes_make_it_fail_otherwise(tmp_path: Path, content: bytes) -> None:
    write_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    try:
        assert read_facts(tmp_path).parameters == 0
    except ModelUnreadable as error:
        assert "model.safetensors" in error.message


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 10**5, "\ud800"], ids=["empty", "list", "cut", "deep", "text"])
def test_a_config_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    write_model(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ModelUnreadable, match=r"config\.json"):
        read_facts(tmp_path)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "", "gone.safetensors"])
def test_an_index_leads_to_no_other_folder(tmp_path: Path, name: str) -> None:
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "part.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelUnreadable):
        read_facts(tmp_path)


def test_facts_that_a_child_described_are_those_that_it_read(tmp_path: Path, tiny_folder: Path) -> None:
    odd = write_model(tmp_path, LLAMA | {"num_attention_heads": -1, "layer_types": ["mamba", "full_attention"]})
    for folder in (tiny_folder, odd):
        assert parse_facts(json.loads(json.dumps(describe(str(folder))))) == read_facts(folder)
    assert read_facts(odd).assumptions
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelUnreadable, match=r"model\.safetensors is not a readable"):
        parse_facts(json.loads(json.dumps(describe(str(odd)))))


def test_weights_of_more_dtypes_than_there_are_are_no_model(tmp_path: Path) -> None:
    write_model(tmp_path)
    tensor = {"shape": [1], "data_offsets": [0, 4]}
    header = {f"t{number}": tensor | {"dtype": f"X{number}"} for number in range(1000)}
    write_header(tmp_path / "model.safetensors", header, data_bytes=4)
    with pytest.raises(ModelUnreadable, match="1000 dtypes"):
        read_facts(tmp_path)
    header = {"t": tensor | {"dtype": "X" * 10**6}}
    write_header(tmp_path / "model.safetensors", header, data_bytes=4)
    assert len(json.dumps(describe(str(tmp_path)))) < 10**4


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "consolidated.safetensors").write_bytes(b"")
    with pytest.raises(ModelUnreadable, match=r"there is no \*\.safetensors file"):
        read_facts(tmp_path)
