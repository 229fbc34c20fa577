"""Chooses the next token of many requests at once, from raw logits: each has its own penalties, temperature, top-k,
top-p and random numbers. Both backends use it.

One uniform number is drawn for each token, on the CPU, so that a seed means the same alone and among others. (The
logits themselves can differ in their last digits: that is how matrices of other heights are multiplied.)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor
from torch.nn.functional import pad

from inference.engine.backend import Sampling, TokenLogprobs

_LARGEST_SEED = 2**64
_COLDEST = 1e-6
_BLOCK = 128


@dataclass(frozen=True)
class SamplingDefaults:
    """What applies when a request says nothing: the model's own values, else the neutral ones."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Plan:
    """A request's sampling with the model's defaults filled in. `top_k` 0 and -1 keep all."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int | None
    seed: int | None

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0 or self.top_k == 1


def plan_sampling(asked: Sampling, *, defaults: SamplingDefaults) -> Plan:
    return Plan(
        temperature=defaults.temperature if asked.temperature is None else asked.temperature,
        top_p=defaults.top_p if asked.top_p is None else asked.top_p,
        top_k=defaults.top_k if asked.top_k is None else asked.top_k,
        repetition_penalty=asked.repetition_penalty or defaults.repetition_penalty,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        top_logprobs=asked.top_logprobs,
        seed=asked.seed,
    )


class Sampler:
    """What the sampling of one request remembers from token to token."""

    def __init__(self, plan: Plan, *, prompt_ids: Sequence[int]) -> None:
        self.plan = plan
        self._random = torch.Generator()
        if plan.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(plan.seed % _LARGEST_SEED)
        self._seen = set(prompt_ids)
        self._seen_ids: Tensor | None = None
        self._counts: Counter[int] = Counter()
        self._deductions: Tensor | None = None

    def draw(self) -> float:
        """From 0 up to, but not including, 1."""
        return float(torch.rand((), dtype=torch.float64, generator=self._random))

    def penalise(self, row: Tensor) -> None:
        """Changes the logits of one step in place: first for repetition, which knows the prompt, then for the rest."""
        if self.plan.repetition_penalty != 1.0:
            if self._seen_ids is None:
                self._seen_ids = torch.tensor(list(self._seen), dtype=torch.long, device=row.device)
            row[self._seen_ids] = weaken(row[self._seen_ids], penalty=self.plan.repetition_penalty)
        if self.plan.presence_penalty or self.plan.frequency_penalty:
            if self._deductions is None:
                self._deductions = torch.zeros_like(row)
            row -= self._deductions

    def note(self, token_id: int) -> None:
        """The token that was chosen."""
        if self._seen_ids is not None and token_id not in self._seen:
            self._seen.add(token_id)
            self._seen_ids = torch.cat([self._seen_ids, self._seen_ids.new_tensor([token_id])])
        if self._deductions is not None:
            self._counts[token_id] += 1
            deduction = self.plan.presence_penalty + self.plan.frequency_penalty * self._counts[token_id]
            self._deductions[token_id] = deduction


@dataclass(frozen=True)
class Chosen:
    token_id: int
    logprobs: TokenLogprobs | None


def choose_tokens(logits: Tensor, samplers: Sequence[Sampler], *, banned: Tensor | None = None) -> list[Chosen | None]:
    """One token for each row. logits: (rows, words), float32; they are changed. None for a row without numbers (NaN).

    `banned`: ids that are never chosen. Logprobs are those of the logits as they came.
    """
    logprobs = {
        row: logits[row].log_softmax(-1) for row, each in enumerate(samplers) if each.plan.top_logprobs is not None
    }
    if banned is not None:
        logits.index_fill_(-1, banned, -torch.inf)
    for row, sampler in zip(logits, samplers, strict=True):
        sampler.penalise(row)
    chosen: list[Chosen | None] = []
    for row, (token_id, sampler) in enumerate(zip(_choose(logits, samplers), samplers, strict=True)):
        if token_id is None:
            chosen.append(None)
            continue
        sampler.note(token_id)
        measured = (
            _measure(logprobs[row], token_id=token_id, top=sampler.plan.top_logprobs) if row in logprobs else None
        )
        chosen.append(Chosen(token_id, measured))
    return chosen


def _choose(logits: Tensor, samplers: Sequence[Sampler]) -> list[int | None]:
    largest, ids = logits.max(-1)
    tokens: list[int | None] = ids.tolist()
    rows = [row for row, sampler in enumerate(samplers) if not sampler.plan.is_greedy]
    if rows:
        # The largest becomes 0, so that a tiny temperature makes no infinity of it.
        shifted = _take(logits, rows).sub_(_take(largest, rows)[:, None])
        for row, token_id in zip(rows, draw_tokens(shifted, [samplers[row] for row in rows]), strict=True):
            tokens[row] = token_id
    for row, is_number in enumerate(largest.isfinite().tolist()):
        tokens[row] = tokens[row] if is_number else None
    return tokens


def _take(values: Tensor, rows: Sequence[int]) -> Tensor:
    """All rows are not copied: memory that is new costs more than what is done in it."""
    return values if len(rows) == len(values) else values[rows]


def draw_tokens(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """logits: (rows, words), the largest of each row is 0; they are changed. With top-k only so many take part."""
    words = logits.shape[-1]
    tokens = [0] * len(samplers)
    is_narrow = [0 < sampler.plan.top_k < words for sampler in samplers]
    if narrow := [row for row, is_so in enumerate(is_narrow) if is_so]:
        for row, token_id in zip(
            narrow, _draw_narrow(_take(logits, narrow), [samplers[row] for row in narrow]), strict=True
        ):
            tokens[row] = token_id
    if wide := [row for row, is_so in enumerate(is_narrow) if not is_so]:
        for row, token_id in zip(
            wide, _draw_index(_take(logits, wide), [samplers[row] for row in wide]).tolist(), strict=True
        ):
            tokens[row] = token_id
    return tokens


def _draw_narrow(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    counts = torch.tensor([[sampler.plan.top_k] for sampler in samplers], device=logits.device)
    values, ids = take_largest(logits, counts=counts)
    picked: list[int] = ids.gather(-1, _draw_index(values, samplers)[:, None])[:, 0].tolist()
    return picked


def take_largest(logits: Tensor, *, counts: Tensor) -> tuple[Tensor, Tensor]:
    """So many of each row, and what is exactly as large as the last of them, as transformers does it: values and ids,
    both (rows, candidates), in the order of the ids, and then minus infinity. counts: (rows, 1).

    16-bit models have many equal logits, of which `topk` takes any. So more are taken, until all equal ones are there.
    """
    width, words = int(counts.max()), logits.shape[-1]
    is_whole = False
    while not is_whole:
        width = min(2 * width, words)
        values, ids = logits.topk(width)
        last = values.gather(-1, counts - 1)
        is_whole = width == words or bool((values[:, -1:] < last).all())
    is_out = values < last
    order = ids.masked_fill(is_out, words).argsort(-1)
    return values.masked_fill_(is_out, -torch.inf).gather(-1, order), ids.gather(-1, order)


def _draw_index(logits: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """logits: (rows, candidates); returns an index for each row."""
    plans = [sampler.plan for sampler in samplers]
    temperatures = torch.tensor([[max(plan.temperature, _COLDEST)] for plan in plans], device=logits.device)
    weights = logits.div_(temperatures).exp_()
    if any(plan.top_p < 1 for plan in plans):
        masses = torch.tensor([[min(plan.top_p, 1.0)] for plan in plans], device=logits.device)
        weights = keep_nucleus(weights, masses=masses)
    uniforms = torch.tensor([sampler.draw() for sampler in samplers], dtype=torch.float64, device=logits.device)
    return pick(weights, uniforms=uniforms)


def keep_nucleus(weights: Tensor, *, masses: Tensor) -> Tensor:
    """Leaves the smallest set that has the mass of all, and what is exactly as large as the last one left; the rest
    becomes 0, in place. weights: (rows, candidates); masses: (rows, 1), shares of the row's sum."""
    ordered = _sort(weights)
    sums = ordered.cumsum(-1)
    first = torch.searchsorted(sums, (1 - masses) * sums[:, -1:], right=True).clamp(max=weights.shape[-1] - 1)
    return weights.masked_fill_(weights < ordered.gather(-1, first), 0)


def _sort(values: Tensor) -> Tensor:
    """numpy sorts 32,000 numbers 16 times as fast as torch does on a CPU."""
    return torch.from_numpy(numpy.sort(values.numpy())) if values.is_cpu else values.sort().values


def pick(weights: Tensor, *, uniforms: Tensor) -> Tensor:
    """The index at which the running sum passes the uniform share of the whole: as likely as its weight.

    weights: (rows, candidates), not normalised; uniforms: (rows), float64, below 1. In two steps, over blocks and then
    in one, which is exact for large vocabularies, and faster than one long running sum.
    """
    blocks = pad(weights, (0, -weights.shape[-1] % _BLOCK)).view(len(weights), -1, _BLOCK)
    index, rest = _pass_sum(blocks.sum(-1).double(), shares=uniforms)
    inner = blocks[torch.arange(len(blocks), device=blocks.device), index].double()
    return index * _BLOCK + _pass_sum(inner, shares=rest)[0]


def _pass_sum(values: Tensor, *, shares: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the index of the value in which the running sum passes the share, and what share of that value."""
    sums = values.cumsum(-1)
    target = shares * sums[:, -1]
    index = torch.searchsorted(sums, target[:, None], right=True).clamp(max=values.shape[-1] - 1)
    value = values.gather(-1, index)[:, 0]
    before = sums.gather(-1, index)[:, 0] - value
    return index[:, 0], ((target - before) / value).clamp(0, 1 - 1e-9)


def weaken(logits: Tensor, *, penalty: float) -> Tensor:
    """Divides positive logits, and multiplies negative ones."""
    return torch.where(logits > 0, logits / penalty, logits * penalty)


def _measure(logprobs: Tensor, *, token_id: int, top: int | None) -> TokenLogprobs:
    values, ids = logprobs.topk(min(top or 0, len(logprobs)))
    return TokenLogprobs(float(logprobs[token_id]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))
