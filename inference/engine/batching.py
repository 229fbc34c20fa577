"""The `batching` backend: all requests take part in each step of the model, each with its own sampling."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from inference.engine.backend import EngineSettings, Failed, Finished, Generation, RunnerFacts, Token
from inference.engine.batching_hooks import BatchSizes, PagedBatches
from inference.engine.loading import LoadedModel
from inference.engine.pace import Pace
from inference.engine.passes import Left, before_each_layer
from inference.engine.sampling import Chosen, Sampler, choose_tokens, plan_sampling
from inference.engine.sizes import DEFAULT_KV_TOKENS, STEP_TOKENS_CPU, STEP_TOKENS_GPU


@dataclass(eq=False)
class Request:
    """`tokens`: those that were chosen so far; they outlive the loss of its pages."""

    generation: Generation
    sampler: Sampler
    tokens: list[int] = field(default_factory=list)


class BatchingRunner:
    """A loaded model; every call comes from the model thread.

    When the cache is full, transformers takes the pages of one request and reads it again later, under the same name:
    its sampling goes on where it was.
    """

    def __init__(self, loaded: LoadedModel, *, settings: EngineSettings) -> None:
        self.tokenizer = loaded.tokenizer
        self.capacity = settings.parallel_requests
        self.steps = 0
        self._loaded = loaded
        usual = STEP_TOKENS_CPU if loaded.device.type == "cpu" else STEP_TOKENS_GPU
        step_tokens = max(usual, settings.parallel_requests)
        self._pace = Pace(most_tokens=step_tokens)
        self.batches = PagedBatches(
            loaded.model,
            sizes=BatchSizes(choose_kv_tokens(settings, loaded=loaded), settings.parallel_requests, step_tokens),
            eos_token_ids=sorted(loaded.eos_token_ids),
        )
        self._names = count()
        self._requests: dict[str, Request] = {}
        self._news: list[tuple[str, Chosen | None]] = []
        self._ended: list[Generation] = []

    @property
    def facts(self) -> RunnerFacts:
        return RunnerFacts(
            backend="batching",
            context_length=min(self._loaded.context_length, self.batches.capacity_tokens),
            parallel_requests=self.capacity,
            words=self._loaded.words,
            kv_tokens=self.batches.kv_tokens,
            kv_bytes=self.batches.kv_bytes,
            kv_device=str(self._loaded.device),
        )

    def admit(self, generation: Generation) -> None:
        plan = plan_sampling(generation.sampling, defaults=self._loaded.defaults)
        self._start(Request(generation, Sampler(plan, prompt_ids=generation.prompt_ids)))

    def drop(self, generation: Generation) -> None:
        for name, request in list(self._requests.items()):
            if request.generation is generation:
                del self._requests[name]
                self.batches.cancel(name)

    def step(self) -> Sequence[Generation]:
        """Gives each request that can have one its next token. Returns those that have ended."""
        answering = sum(bool(request.tokens) for request in self._requests.values())
        started = time.monotonic()
        try:
            with torch.inference_mode(), self._watch(answering=answering):
                tokens = self.batches.step(self._choose, most_tokens=self._pace.choose_tokens(answering=answering))
        except Left:
            return self.recover()
        if not tokens and self._requests:
            raise RuntimeError(f"{len(self._requests)} requests wait, and transformers finds nothing to do for them")
        self._pace.note(tokens=tokens, seconds=time.monotonic() - started)
        self.steps += 1
        news, self._news = self._news, []
        for name, chosen in news:
            self._tell(name, chosen)
        ended, self._ended = self._ended, []
        return ended

    def recover(self) -> Sequence[Generation]:
        """After a step that raised: the requests in it that have no token yet are blamed, or if there are none, all in
        it. They are returned; the others are read again."""
        in_step = {name: self._requests[name] for name in self.batches.scheduled_ids if name in self._requests}
        blamed = [request for request in in_step.values() if not request.tokens] or list(in_step.values())
        blamed = blamed or list(self._requests.values())
        rest = [request for request in self._requests.values() if request not in blamed]
        with torch.inference_mode():
            self.batches.forget_all()
        self._requests.clear()
        self._news.clear()
        for request in rest:
            self._start(request)
        return [request.generation for request in blamed]

    def _watch(self, *, answering: int) -> AbstractContextManager[None]:
        """On a CPU a part of a prompt may take long: it shows that it goes on, and ends when all have left."""
        if answering or self._loaded.device.type != "cpu":
            return nullcontext()
        return before_each_layer(self._loaded.model, self._go_on)

    def _go_on(self) -> None:
        in_step = [self._requests[name].generation for name in self.batches.scheduled_ids]
        if all(each.cancelled.is_set() for each in in_step):
            raise Left
        self.steps += 1

    def _start(self, request: Request) -> None:
        name = str(next(self._names))
        self._requests[name] = request
        self.batches.add(
            name,
            prompt_ids=(*request.generation.prompt_ids, *request.tokens),
            max_new_tokens=request.generation.max_new_tokens - len(request.tokens),
        )

    def _choose(self, logits: Tensor, names: Sequence[str]) -> Sequence[int]:
        chosen = choose_tokens(logits, [self._requests[name].sampler for name in names], banned=self._loaded.banned)
        self._news = list(zip(names, chosen, strict=True))
        return [each.token_id if each else 0 for each in chosen]

    def _tell(self, name: str, chosen: Chosen | None) -> None:
        request = self._requests[name]
        if chosen is None:
            self.batches.cancel(name)
            self._end(name, Failed(self._loaded.explain_no_numbers()))
            return
        request.tokens.append(chosen.token_id)
        is_end = chosen.token_id in self._loaded.eos_token_ids
        request.generation.send(Token(chosen.token_id, is_end=is_end, logprobs=chosen.logprobs))
        if is_end or len(request.tokens) == request.generation.max_new_tokens:
            self._end(name, Finished("stop" if is_end else "length"))

    def _end(self, name: str, event: Finished | Failed) -> None:
        generation = self._requests.pop(name).generation
        generation.send(event)
        self._ended.append(generation)


def choose_kv_tokens(settings: EngineSettings, *, loaded: LoadedModel) -> int:
    """Nobody planned it: one whole context, and several short ones."""
    usual = min(DEFAULT_KV_TOKENS, loaded.context_length * settings.parallel_requests)
    return settings.kv_tokens or max(loaded.context_length, usual)
