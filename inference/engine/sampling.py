"""Chooses each token from the raw logits: penalties, temperature, top-k, top-p; each request has its own generator."""

from collections import deque
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor

from inference.engine.backend import Sampling, TokenLogprobs
from inference.engine.loading import SamplingDefaults

_LARGEST_SEED = 2**64


@dataclass(frozen=True)
class Plan:
    """A request's sampling with the model's defaults filled in."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int | None
    seed: int | None


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


class Sampler(LogitsProcessor):
    """The last processor of one `generate` call: it leaves exactly one token possible, the one that it has chosen.

    `logprobs` gets an entry per token, from the logits before any change. input_ids: (1, length); scores: (1, words).
    """

    def __init__(self, plan: Plan, *, prompt_tokens: int, device: torch.device) -> None:
        self.logprobs: deque[TokenLogprobs | None] = deque()
        self._plan = plan
        self._prompt_tokens = prompt_tokens
        self._generator = torch.Generator(device=device)
        if plan.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(plan.seed % _LARGEST_SEED)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        raw = scores[0].float()
        chosen = self._choose(self._penalise(raw, seen=input_ids[0]))
        self.logprobs.append(self._measure(raw, chosen=chosen))
        only = torch.full_like(scores, -torch.inf)
        only[0, chosen] = 0.0
        return only

    def _penalise(self, logits: torch.Tensor, *, seen: torch.Tensor) -> torch.Tensor:
        plan = self._plan
        if plan.repetition_penalty != 1.0:
            logits = penalise_repetition(logits, seen=seen, penalty=plan.repetition_penalty)
        if plan.presence_penalty or plan.frequency_penalty:
            counts = torch.bincount(seen[self._prompt_tokens :], minlength=len(logits))[: len(logits)]
            logits = logits - plan.frequency_penalty * counts - plan.presence_penalty * (counts > 0)
        return logits

    def _choose(self, logits: torch.Tensor) -> torch.Tensor:
        if self._plan.temperature == 0 or self._plan.top_k == 1:
            return logits.argmax()
        logits = keep_top_k(scale(logits, temperature=self._plan.temperature), count=self._plan.top_k)
        probabilities = keep_top_p(logits.softmax(-1), mass=self._plan.top_p)
        return torch.multinomial(probabilities, 1, generator=self._generator)[0]

    def _measure(self, raw: torch.Tensor, *, chosen: torch.Tensor) -> TokenLogprobs | None:
        if self._plan.top_logprobs is None:
            return None
        logprobs = raw.log_softmax(-1)
        values, ids = logprobs.topk(min(self._plan.top_logprobs, len(logprobs)))
        return TokenLogprobs(float(logprobs[chosen]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))


def penalise_repetition(logits: torch.Tensor, *, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    """Divides a positive logit of a token that was seen, in prompt or answer, and multiplies a negative one."""
    values = logits[seen]
    return logits.scatter(0, seen, torch.where(values > 0, values / penalty, values * penalty))


def scale(logits: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """The largest becomes 0 first, so that a tiny temperature makes no infinity of it."""
    return (logits - logits.max()) / max(temperature, 1e-6)


def keep_top_k(logits: torch.Tensor, *, count: int) -> torch.Tensor:
    """0 and -1 keep all."""
    if count <= 0 or count >= len(logits):
        return logits
    return logits.masked_fill(logits < logits.topk(count).values[-1], -torch.inf)


def keep_top_p(probabilities: torch.Tensor, *, mass: float) -> torch.Tensor:
    """Keeps the smallest set of tokens that together have the mass, and always the most probable one."""
    if mass >= 1.0:
        return probabilities
    ordered, ids = probabilities.sort(descending=True)
    is_needed = ordered.cumsum(-1) - ordered < mass
    is_needed[0] = True
    return torch.zeros_like(probabilities).scatter(0, ids, ordered * is_needed)
