"""A tokenizer as those of Llama 2, Mistral or Gemma: a space is a part of the word behind it, and is left out at the start
of a text. What is no word is made of bytes."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast  # noqa: TID253

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_OTHERS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), _SPACE]
NO_WORDS = len(_OTHERS)
"""Ids from here on are words."""
_WORDS = ["The", "sea", "is", "blue", "and", "a", "captain", "map"]


def make_metaspace(folder: Path | None = None, *, words: int = 2048) -> PreTrainedTokenizerFast:
    """With so many words in all; the last ones are numbered. Written to the folder, if there is one."""
    names = [*_OTHERS, *(f"{_SPACE}{word}" for word in _WORDS)]
    names += [f"{_SPACE}w{number}" for number in range(words - len(names))]
    pieces = [(name, -float(len(name) == 1)) for name in names]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    if folder:
        for path in [*folder.glob("tokenizer*"), folder / "chat_template.jinja"]:
            path.unlink()
        made.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
        made.save_pretrained(folder)
    return made
