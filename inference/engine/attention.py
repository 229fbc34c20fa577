"""Attention over paged keys and values on the CPU: each request reads its own pages, and nothing of the others.

transformers reads the pages of all requests into one long tensor and masks what is not a request's own, which costs the
square of their number: steps of 16 requests with 300 tokens each took three times as long, and more memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any
from weakref import proxy

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

Pages = tuple[Tensor, Tensor]

_numbers = count(1)

# What some models ask of their attention, and this one does not do.
_UNKNOWN = ("softcap", "position_bias", "s_aux")


@dataclass(frozen=True)
class Span:
    """One request's part of a step: its new tokens are the rows `start` to `end`, and it has `length` tokens in all.

    `pages`: where its tokens lie, in order; None where all of them are new. `mask`: (new tokens, all tokens), which of
    them each new one sees; None where it sees all, or all before it.
    """

    start: int
    end: int
    length: int
    pages: Tensor | None
    mask: Tensor | None


def make_span(start: int, *, new: int, length: int, pages: Sequence[int]) -> Span:
    """So many new tokens, the last ones of `length`; `pages` are as many as these need."""
    if new == length:
        return Span(start, start + new, length, pages=None, mask=None)
    mask = torch.ones(new, length, dtype=torch.bool).tril(length - new) if new > 1 else None
    return Span(start, start + new, length, pages=torch.tensor(pages), mask=mask)


class PagedAttention:
    """An attention function of transformers, registered as `name`: `bind` it to a cache, and `begin` each step."""

    def __init__(self) -> None:
        self.name = f"paged_by_request_{next(_numbers)}"
        AttentionInterface.register(self.name, proxy(self))  # which is kept for ever
        self._pages_by_layer: Mapping[int, Pages] = {}
        self._spans: Sequence[Span] = ()
        self._read_keys = self._read_values = torch.empty(0)

    def bind(self, pages_by_layer: Mapping[int, Pages]) -> None:
        """For each layer its keys and values: (pages, tokens of a page, heads, size of a head)."""
        self._pages_by_layer = pages_by_layer

    def begin(self, spans: Sequence[Span]) -> None:
        self._spans = spans

    def __call__(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        """query: (1, heads, new tokens, size); key, value: the new tokens', which lie in the pages already."""
        if attention_mask is not None or any(others.get(name) is not None for name in _UNKNOWN):
            raise ValueError("this model's attention has a mask, sinks or a cap of its own")
        output = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
        for span in self._spans:
            keys, values = self._find(span, key=key, value=value, layer=module.layer_idx)
            attended = scaled_dot_product_attention(
                query[:, :, span.start : span.end],
                keys,
                values,
                attn_mask=span.mask,
                is_causal=span.pages is None and span.length > 1,
                scale=others.get("scaling"),
                enable_gqa=True,
            )
            output[:, span.start : span.end] = attended.transpose(1, 2)
        return output, None

    def _find(self, span: Span, *, key: Tensor, value: Tensor, layer: int) -> Pages:
        if span.pages is None:
            return key[:, :, span.start : span.end], value[:, :, span.start : span.end]
        keys, values = self._pages_by_layer[layer]
        if len(span.pages) == 1:
            page = int(span.pages[0])
            return _as_heads(keys[page, : span.length]), _as_heads(values[page, : span.length])
        self._make_room(len(span.pages), like=keys)
        return (
            _as_heads(_gather(keys, span.pages, out=self._read_keys)[: span.length]),
            _as_heads(_gather(values, span.pages, out=self._read_values)[: span.length]),
        )

    def _make_room(self, count: int, *, like: Tensor) -> None:
        """The same memory for each request and layer: new memory costs more than the copy."""
        if len(self._read_keys) < count:
            self._read_keys, self._read_values = (like.new_empty(count, *like.shape[1:]) for _ in range(2))


def _gather(pages: Tensor, wanted: Tensor, *, out: Tensor) -> Tensor:
    """(tokens, heads, size)"""
    return torch.index_select(pages, 0, wanted, out=out[: len(wanted)]).flatten(0, 1)


def _as_heads(tokens: Tensor) -> Tensor:
    """(tokens, heads, size) to (1, heads, tokens, size)"""
    return tokens.transpose(0, 1)[None]
