"""The demo model is a real one: made twice it is the same, and transformers loads it."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: TID253

from demo.tiny_model import make_tiny_llama


def hash_folder(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "acme" / "tiny"
    make_tiny_llama(folder)
    return folder


def test_the_command_makes_the_same_bytes_again(model_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo.tiny_model", str(tmp_path / "again"), "--size", "tiny"]
    subprocess.run(command, check=True, env=os.environ, timeout=120, capture_output=True)
    assert hash_folder(tmp_path / "again") == hash_folder(model_folder)


def test_it_has_every_file_of_a_model_and_no_pickle(model_folder: Path) -> None:
    names = {path.name for path in model_folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".py"))]
    assert 20_000_000 < (model_folder / "model.safetensors").stat().st_size < 25_000_000
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in model_folder.iterdir())


def test_transformers_loads_it_and_its_tokens_match_its_vocabulary(model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id


@pytest.mark.parametrize("text", ["The captain repairs the oldest map.", "naïve 🙂 👩‍🚀 こんにちは", "\n\t  x"])
def test_the_tokenizer_gives_back_any_text(model_folder: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_chat_template_marks_turns(model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_the_small_size_has_a_long_context(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path, size="small")
    assert 75_000_000 < (tmp_path / "model.safetensors").stat().st_size < 85_000_000
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.max_position_embeddings == 2048
