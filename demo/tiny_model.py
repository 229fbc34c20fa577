"""Makes a small Llama with random, seeded weights and a real tokenizer: `python -m demo.tiny_model DIR [--size small]`.

It talks nonsense, but every byte of the way is the way of a real model: safetensors, chat template, end tokens.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from demo.story import make_text

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerFast

END_OF_TEXT, TURN_STARTS, TURN_ENDS = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('This model knows the roles system, user and assistant, not ' + message['role'] + '.') }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_VOCABULARY = 2048
_SEED = 20240229


@dataclass(frozen=True)
class Size:
    """A Llama's shape."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    context_length: int


# About 22 MB and 80 MB of fp32 weights.
SIZES = {
    "tiny": Size(layers=7, hidden=256, intermediate=688, heads=8, context_length=512),
    "small": Size(layers=6, hidden=512, intermediate=1536, heads=8, context_length=2048),
}


def make_tiny_llama(folder: Path, *, size: str = "tiny") -> None:
    """Writes a model folder as the Hub has it. The same size gives the same bytes; raises KeyError for another size."""
    shape = SIZES[size]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _train_tokenizer(context_length=shape.context_length)
    tokenizer.save_pretrained(folder)
    config = _describe(shape, tokenizer=tokenizer)
    parameters = _write_weights(folder, config=config)
    (folder / "README.md").write_text(_write_card(size, parameters=parameters), encoding="utf-8")


def _train_tokenizer(*, context_length: int) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[END_OF_TEXT, TURN_STARTS, TURN_ENDS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(make_text(), trainer=trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=TURN_ENDS,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )


def _describe(shape: Size, *, tokenizer: "PreTrainedTokenizerFast") -> "LlamaConfig":
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads // 2,
        max_position_embeddings=shape.context_length,
        initializer_range=0.08,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _write_weights(folder: Path, *, config: "LlamaConfig") -> int:
    """Returns the number of parameters. The caller's random numbers are as they were."""
    import torch
    from transformers import GenerationConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=config.bos_token_id,
        eos_token_id=[config.eos_token_id, config.bos_token_id],
        pad_token_id=config.pad_token_id,
    )
    model.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # transformers makes it 0600, and the server may run as somebody else
    return int(model.num_parameters())


def _write_card(size: str, *, parameters: int) -> str:
    return f"""---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [demo, random-weights]
---
# A {size} Llama with random weights

{parameters:,} parameters, never trained: it answers with nonsense, at the speed of a real model of its size.
It is for trying and testing a server. Its tokenizer is real, and so are its chat template and its end tokens.
"""


def _hide_progress_bars() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.tiny_model", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="TARGET_DIR")
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    chosen = parser.parse_args(arguments)
    _hide_progress_bars()
    make_tiny_llama(chosen.folder, size=chosen.size)
    print(f"Wrote a {chosen.size} Llama to {chosen.folder}.")


if __name__ == "__main__":
    main()
