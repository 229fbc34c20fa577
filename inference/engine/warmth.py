"""What a standby does before it knows its model: it loads and runs a tiny one, so that all that any load does for the
first time has been done."""

import tempfile

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from inference.engine.backend import EngineSettings, Generation, Sampling
from inference.engine.loading import load_model
from inference.engine.runners import start_runner

_WORDS = 256
_CONTEXT_LENGTH = 256


def warm_libraries() -> None:
    """On the model thread. On the CPU only: a GPU's memory is not taken before it is needed."""
    with tempfile.TemporaryDirectory(prefix="engine-warmth-") as folder:
        _write_model(folder)
        settings = EngineSettings(folder, "warmth", parallel_requests=2, device="cpu", dtype="float32")
        runner = start_runner(load_model(settings), settings=settings)
    sampling = Sampling(top_p=0.9, seed=1)
    runner.admit(Generation((1, 2, 3), max_new_tokens=2, sampling=sampling, on_event=lambda _: None))
    while not runner.step():
        continue


def _write_model(folder: str) -> None:
    config = LlamaConfig(
        vocab_size=_WORDS,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=_CONTEXT_LENGTH,
    )
    with torch.random.fork_rng(devices=[]):
        LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), eos_token="</s>").save_pretrained(folder)  # type: ignore[no-untyped-call]  # noqa: S106
