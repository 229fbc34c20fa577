"""The models that bench.serving serves: Llamas of 134 M random fp32 weights, made once, kept in the temporary folder.

Their tokenizer has 32,000 real tokens, learned from Python's own sources, because random weights choose any of them.
In the last layer the rows of the end token, and of tokens that are half a character, are zero: greedy decoding never
ends early, and every token is a piece of text that is sent at once.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from demo.tiny_model import make_tiny_llama
from tests.factories import make_cached_repo

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerFast

NAMES = ("llama-a", "llama-b")
CONTEXT_LENGTH = 2048
PAGE_TOKENS = 256
"""Tokens in a block of the peer's KV cache."""
_SOURCES_BYTES = 6 * 10**6
_VOCABULARY = 32_000
_COMMIT = "a" * 40


def models_folder() -> Path:
    """A Hub cache with both models, made where it is not there yet, which takes a minute."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = Path(tempfile.gettempdir()) / f"homelab-bench-llamas-{os.getuid()}-{version}"
    if not folder.exists():
        print(f"Making two models of 134 M parameters in {folder} ...", flush=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as unfinished:
            _make_models(Path(unfinished))
            shutil.copytree(Path(unfinished, "hub"), folder, symlinks=True, copy_function=os.link)
    return folder


def lend_models(cache: Path) -> dict[str, Path]:
    """Puts them into a cache of ours, as links to the same bytes; returns their snapshots by name, for the peers."""
    shutil.copytree(models_folder(), cache, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
    return {name: _snapshot(cache, name) for name in NAMES}


def _snapshot(cache: Path, name: str) -> Path:
    return cache / f"models--bench--{name}" / "snapshots" / _COMMIT


def _make_models(folder: Path) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    make_tiny_llama(folder / "tiny")
    tokenizer = _train_tokenizer(folder / "tiny")
    for seed, name in enumerate(NAMES):
        _write_model(folder / name, tokenizer=tokenizer, seed=seed)
        files = {path.name: path.read_bytes() for path in (folder / name).iterdir()}
        make_cached_repo(folder / "hub", f"bench/{name}", files=files, commit=_COMMIT)


def _train_tokenizer(tiny: Path) -> "PreTrainedTokenizerFast":
    """The demo's tokenizer and chat template with a vocabulary of a usual size."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    trained = tokenizer.train_new_from_iterator(_read_sources(), vocab_size=_VOCABULARY, show_progress=False)
    trained.model_max_length = CONTEXT_LENGTH
    return trained


def _read_sources() -> Iterator[str]:
    size_bytes = 0
    for path in sorted(Path(os.__file__).parent.rglob("*.py")):
        if "site-packages" not in path.parts and size_bytes < _SOURCES_BYTES:
            size_bytes += path.stat().st_size
            yield path.read_text(encoding="utf-8", errors="replace")


def _write_model(folder: Path, *, tokenizer: "PreTrainedTokenizerFast", seed: int) -> None:
    import torch
    from transformers import GenerationConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(_describe(tokenizer))
    with torch.no_grad():
        model.lm_head.weight[_find_mute(tokenizer)] = 0
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, **ids)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def _find_mute(tokenizer: "PreTrainedTokenizerFast") -> list[int]:
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return [
        *tokenizer.all_special_ids,
        *(token for token, text in enumerate(texts) if "\N{REPLACEMENT CHARACTER}" in text),
    ]


def _describe(tokenizer: "PreTrainedTokenizerFast") -> "LlamaConfig":
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=CONTEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
