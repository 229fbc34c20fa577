"""Runs one generation at a time with transformers' own `generate`."""

from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from inference.engine.backend import EngineSettings, Finished, Generation, Sampling, Token
from inference.engine.loading import LoadedModel, load_model
from inference.engine.sampling import Sampler, plan_sampling


def load_runner(settings: EngineSettings) -> "GenerateRunner":
    return GenerateRunner(load_model(settings))


class GenerateRunner:
    def __init__(self, loaded: LoadedModel) -> None:
        model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.context_length = loaded.context_length
        self.device = str(model.device)
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.parameters = int(model.num_parameters())
        self.weights_bytes = int(model.get_memory_footprint())
        self._loaded = loaded

    def warm_up(self) -> None:
        """Two tokens: the first reads the prompt, the second reads the cache."""
        ids = tuple(self.tokenizer("Hello")["input_ids"]) or (0,)
        generation = Generation(ids, max_new_tokens=2, sampling=Sampling(temperature=0), on_event=lambda _: None)
        self.run(generation)

    def run(self, generation: Generation) -> None:
        if generation.cancelled.is_set():
            return
        sampler = self._make_sampler(generation)
        streamer = EventStreamer(generation, sampler=sampler, eos_token_ids=self._loaded.eos_token_ids)
        prompt = torch.tensor([generation.prompt_ids], device=self._loaded.model.device)
        with torch.inference_mode():
            self._loaded.model.generate(
                inputs=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=self._configure(generation),
                logits_processor=[sampler],
                stopping_criteria=StoppingCriteriaList([Cancelled(generation)]),
                streamer=streamer,
            )
        if not generation.cancelled.is_set():
            generation.on_event(Finished("stop" if streamer.has_ended else "length"))

    def _make_sampler(self, generation: Generation) -> Sampler:
        plan = plan_sampling(generation.sampling, defaults=self._loaded.defaults)
        return Sampler(plan, prompt_tokens=len(generation.prompt_ids), device=self._loaded.model.device)

    def _configure(self, generation: Generation) -> GenerationConfig:
        """Greedy, because the sampler leaves one token possible; all else is the model's own."""
        return GenerationConfig(max_new_tokens=generation.max_new_tokens, do_sample=False, use_cache=True)  # type: ignore[no-untyped-call]


class Cancelled(StoppingCriteria):
    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def __call__(self, input_ids: torch.Tensor, scores: Any, **unused: Any) -> torch.Tensor:
        is_cancelled = self._generation.cancelled.is_set()
        return torch.full((input_ids.shape[0],), is_cancelled, dtype=torch.bool, device=input_ids.device)


class EventStreamer(BaseStreamer):
    """`generate` first puts the prompt, then each token as it is chosen."""

    def __init__(self, generation: Generation, *, sampler: Sampler, eos_token_ids: frozenset[int]) -> None:
        self.has_ended = False
        self._generation = generation
        self._sampler = sampler
        self._eos_token_ids = eos_token_ids
        self._has_seen_prompt = False

    def put(self, value: torch.Tensor) -> None:
        if not self._has_seen_prompt:
            self._has_seen_prompt = True
            return
        for token_id in value.flatten().tolist():
            self.has_ended = token_id in self._eos_token_ids
            logprobs = self._sampler.logprobs.popleft()
            self._generation.on_event(Token(token_id, is_end=self.has_ended, logprobs=logprobs))

    def end(self) -> None:
        """Nothing waits here: tokens were passed on one by one."""
