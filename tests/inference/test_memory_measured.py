"""Real engines on the CPU take what their plans say, within 10 %: three shapes, loaded, and busy until the cache is full.

What is measured is the largest resident set from the first answer on: weights that are mapped count once, as in the plan.
"""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from inference.facts import read_facts
from inference.memory import Choices, Device, MemoryPlan, plan_memory
from tests.inference.engine.conftest import Engine, start_engine

GB = 10**9
SAMPLE_SECONDS = 0.01
LLAMA = {"hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8, "tie_word_embeddings": False}
SHAPES = {
    "a wide vocabulary": {
        "vocab_size": 64_000,
        "num_hidden_layers": 4,
        "num_key_value_heads": 8,
        "max_position_embeddings": 1024,
    },
    "deep, with grouped heads": {
        "vocab_size": 4000,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
    },
    "a longer context with a large cache": {
        "vocab_size": 4000,
        "num_hidden_layers": 8,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 2048,
    },
}
PARALLEL_REQUESTS = {"a wide vocabulary": 4, "deep, with grouped heads": 2, "a longer context with a large cache": 2}


def make_llama(folder: Path, *, shape: dict[str, int], dtype: str = "float32", device: str = "cpu") -> None:
    """Random weights, and a tokenizer with a word for each row of the embeddings: w2, w3, ... `device`: makes them."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {"<s>": 0, "</s>": 1} | {f"w{number}": number for number in range(2, shape["vocab_size"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>").save_pretrained(folder)
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**(LLAMA | shape))).to(getattr(torch, dtype))
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=1)
    model.save_pretrained(folder)


@dataclass
class Meter:
    """The most that `read` answers while the block lasts, in bytes."""

    read: Callable[[], int]
    peak_bytes: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self.read())


def fill_cache(engine: Engine, plan: MemoryPlan, *, vocab_size: int) -> None:
    """As many requests at once as there may be, each with a context as long as it may be."""
    length = min(plan.context_length, plan.kv_tokens // plan.parallel_requests)
    prompts = [make_prompt(length - 4, seed=seed, vocab_size=vocab_size) for seed in range(plan.parallel_requests)]
    with ThreadPoolExecutor(plan.parallel_requests) as pool:
        asked = [pool.submit(complete, engine, prompt) for prompt in prompts]
        assert [future.result() for future in asked] == [length - 4] * plan.parallel_requests


def make_prompt(tokens: int, *, seed: int, vocab_size: int) -> str:
    words = random.Random(seed)
    return " ".join(f"w{words.randrange(2, vocab_size)}" for _ in range(tokens))


def complete(engine: Engine, prompt: str) -> int:
    """Returns the number of prompt tokens."""
    answer = engine.client.post(
        "/v1/completions", json={"prompt": prompt, "max_tokens": 4, "ignore_eos": True}, timeout=600
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize("name", SHAPES)
def test_an_engine_takes_what_its_plan_says(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    make_llama(tmp_path, shape=shape)
    plan = plan_for(tmp_path, parallel_requests=PARALLEL_REQUESTS[name])
    with start_engine(tmp_path, *arguments_of(plan)) as engine:
        said = engine.client.get("/health").json()["memory"]["cpu"]
        process = psutil.Process(engine.process.pid)
        meter = Meter(lambda: process.memory_info().rss)
        with meter.running():
            fill_cache(engine, plan, vocab_size=shape["vocab_size"])
    share = plan.shares["cpu"]
    assert said["kv_bytes"] == share.kv_bytes
    assert said["weights_bytes"] == pytest.approx(share.weights_bytes, rel=0.001)
    assert meter.peak_bytes == pytest.approx(plan.total_bytes, rel=0.1)


def plan_for(folder: Path, *, parallel_requests: int) -> MemoryPlan:
    devices = [Device("cpu", 9 * GB, 9 * GB, "main memory")]
    return plan_memory(read_facts(folder), choices=Choices(parallel_requests=parallel_requests), devices=devices)


def arguments_of(plan: MemoryPlan) -> list[str]:
    numbers = {"context-length": plan.context_length, "kv-tokens": plan.kv_tokens}
    words = {"dtype": plan.dtype, "parallel-requests": plan.parallel_requests}
    return [word for name, value in (numbers | words).items() for word in (f"--{name}", str(value))]
