"""The `generate` backend: one generation at a time, with transformers' own, for models that it cannot batch."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from inference.engine.backend import Failed, Finished, Generation, RunnerFacts, Token
from inference.engine.loading import LoadedModel
from inference.engine.passes import Left, before_each_layer
from inference.engine.sampling import Chosen, Sampler, choose_tokens, plan_sampling


class GenerateRunner:
    """A loaded model; every call comes from the model thread.

    What it counts as a step is a layer: a long prompt is one pass, which shows that it goes on, and which can be left.
    """

    capacity = 1

    def __init__(self, loaded: LoadedModel, *, reason: str) -> None:
        self.tokenizer = loaded.tokenizer
        self.facts = RunnerFacts(
            "generate", loaded.context_length, parallel_requests=1, words=loaded.words, backend_reason=reason
        )
        self.steps = 0
        self._loaded = loaded
        self._active: list[Generation] = []

    def admit(self, generation: Generation) -> None:
        self._active = [generation]

    def drop(self, generation: Generation) -> None:
        """It looks itself whether it is cancelled."""

    def step(self) -> Sequence[Generation]:
        """One whole generation."""
        for generation in self._active:
            if not generation.cancelled.is_set():
                self._run(generation)
        return self.recover()

    def recover(self) -> Sequence[Generation]:
        ended, self._active = self._active, []
        return ended

    def _run(self, generation: Generation) -> None:
        chooser = OneChooser(self._loaded, generation=generation)
        with suppress(Left), before_each_layer(self._loaded.model, lambda: self._go_on(generation)):
            self._generate(generation, chooser=chooser)
        if chooser.last is None:
            generation.send(Failed(self._loaded.explain_no_numbers()))
        else:
            generation.send(Finished("stop" if chooser.has_ended else "length"))

    def _go_on(self, generation: Generation) -> None:
        if generation.cancelled.is_set():
            raise Left
        self.steps += 1

    def _generate(self, generation: Generation, *, chooser: "OneChooser") -> None:
        prompt = torch.tensor([generation.prompt_ids], device=self._loaded.device)
        # Greedy, because the chooser leaves one token possible; all else is the model's own.
        config = GenerationConfig(max_new_tokens=generation.max_new_tokens, do_sample=False, use_cache=True)  # type: ignore[no-untyped-call]
        with torch.inference_mode():
            self._loaded.model.generate(
                inputs=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=config,
                logits_processor=[chooser],
                stopping_criteria=StoppingCriteriaList([EarlyEnd(chooser)]),
                streamer=EventStreamer(generation, chooser=chooser),
            )


class OneChooser(LogitsProcessor):
    """The last processor of one `generate` call: it leaves exactly one token possible, the one that it has chosen.

    `last`: None if the model gave no numbers. input_ids: (1, length); scores: (1, words).
    """

    def __init__(self, loaded: LoadedModel, *, generation: Generation) -> None:
        plan = plan_sampling(generation.sampling, defaults=loaded.defaults)
        self.last: Chosen | None = None
        self._sampler = Sampler(plan, prompt_ids=generation.prompt_ids)
        self._loaded = loaded

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        logits = scores.float().clone()
        (self.last,) = choose_tokens(logits, [self._sampler], banned=self._loaded.banned)
        only = torch.full_like(scores, -torch.inf)
        only[0, self.last.token_id if self.last else 0] = 0.0
        return only

    @property
    def has_ended(self) -> bool:
        return self.last is not None and self.last.token_id in self._loaded.eos_token_ids


class EarlyEnd(StoppingCriteria):
    """Where the model gave no numbers."""

    def __init__(self, chooser: OneChooser) -> None:
        self._chooser = chooser

    def __call__(self, input_ids: Tensor, scores: Any, **unused: Any) -> Tensor:
        is_over = self._chooser.last is None
        return torch.full((input_ids.shape[0],), is_over, dtype=torch.bool, device=input_ids.device)


class EventStreamer(BaseStreamer):
    """`generate` first puts the prompt, then each token as it is chosen."""

    def __init__(self, generation: Generation, *, chooser: OneChooser) -> None:
        self._generation = generation
        self._chooser = chooser
        self._has_seen_prompt = False

    def put(self, value: Tensor) -> None:
        chosen = self._chooser.last
        if self._has_seen_prompt and chosen:
            self._generation.send(Token(chosen.token_id, is_end=self._chooser.has_ended, logprobs=chosen.logprobs))
        self._has_seen_prompt = True

    def end(self) -> None:
        """Nothing waits here: tokens were passed on one by one."""
