"""One token at a time: its text and its bytes, as `logprobs` show them."""

import math
import re
from functools import lru_cache

from inference.engine.backend import Tokenizer, TokenLogprobs
from inference.engine.protocol import TokenText

_NEVER = -9999.0  # JSON has no minus infinity; this is what OpenAI writes
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def _map_byte_characters() -> dict[str, int]:
    """Byte-level tokenizers write each byte as one printable character: itself, or the next free one from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _map_byte_characters()


def describe_token(token_id: int, *, tokenizer: Tokenizer, logprobs: TokenLogprobs, offset: int) -> TokenText:
    top = tuple(_describe(each, tokenizer=tokenizer, logprob=logprob) for each, logprob in logprobs.top)
    return _describe(token_id, tokenizer=tokenizer, logprob=logprobs.chosen, top=top, offset=offset)


def _describe(
    token_id: int, *, tokenizer: Tokenizer, logprob: float, top: tuple[TokenText, ...] = (), offset: int = 0
) -> TokenText:
    text, token_bytes = _read(tokenizer, token_id)
    logprob = logprob if math.isfinite(logprob) else _NEVER
    return TokenText(text=text, token_bytes=token_bytes, logprob=logprob, top=top, offset=offset)


@lru_cache(maxsize=2**16)
def _read(tokenizer: Tokenizer, token_id: int) -> tuple[str, bytes]:
    """As it is written after another: some tokenizers leave out the space before the first token of a text."""
    first = str(tokenizer.decode([token_id], skip_special_tokens=False))
    text = str(tokenizer.decode([token_id, token_id], skip_special_tokens=False))[len(first) :]
    return text, read_bytes(str(tokenizer.convert_ids_to_tokens(token_id)), text=text)


def read_bytes(written: str, *, text: str) -> bytes:
    """A token that is a part of a character decodes to U+FFFD; how the vocabulary writes it tells its bytes."""
    if "\N{REPLACEMENT CHARACTER}" not in text:
        return text.encode()
    if match := _BYTE_TOKEN.fullmatch(written):
        return bytes.fromhex(match[1])
    return bytes(_BYTES[each] for each in written) if set(written) <= set(_BYTES) else text.encode()
