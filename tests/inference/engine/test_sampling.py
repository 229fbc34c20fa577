"""How a token is chosen, on logits made by hand."""

import math

import pytest
import torch  # noqa: TID253

from inference.engine.backend import Sampling
from inference.engine.loading import SamplingDefaults
from inference.engine.sampling import Sampler, keep_top_k, keep_top_p, penalise_repetition, plan_sampling

LOGITS = torch.tensor([[1.0, 3.0, 2.0, -1.0]])
PROMPT = torch.tensor([[1]])


def make_sampler(*, prompt_tokens: int = 1, **asked: float | int | None) -> Sampler:
    plan = plan_sampling(Sampling(**asked), defaults=SamplingDefaults())
    return Sampler(plan, prompt_tokens=prompt_tokens, device=torch.device("cpu"))


def choose(sampler: Sampler, *, seen: torch.Tensor = PROMPT) -> int:
    return int(sampler(seen, LOGITS.clone()).argmax())


def test_temperature_zero_takes_the_most_probable_token() -> None:
    assert choose(make_sampler(temperature=0.0)) == 1


def test_a_tiny_temperature_is_greedy_and_not_infinite() -> None:
    assert choose(make_sampler(temperature=1e-30)) == 1


def test_tokens_come_as_often_as_their_probability() -> None:
    sampler = make_sampler(seed=1)
    counts = [0] * 4
    for _ in range(4000):
        counts[choose(sampler)] += 1
    for count, probability in zip(counts, LOGITS[0].softmax(-1).tolist(), strict=True):
        assert count / 4000 == pytest.approx(probability, abs=0.03)


def test_the_same_seed_chooses_the_same_tokens() -> None:
    first, second = make_sampler(seed=5), make_sampler(seed=5)
    assert [choose(first) for _ in range(30)] == [choose(second) for _ in range(30)]


@pytest.mark.parametrize("seed", [-1, 0, 2**64 - 1, 2**70])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    assert choose(make_sampler(seed=seed)) in range(4)


def test_a_request_leaves_the_random_numbers_of_others_alone() -> None:
    state = torch.random.get_rng_state()
    choose(make_sampler(seed=5))
    choose(make_sampler())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_top_k_keeps_that_many() -> None:
    assert keep_top_k(LOGITS[0], count=2).isfinite().tolist() == [False, True, True, False]
    assert keep_top_k(LOGITS[0], count=-1).isfinite().all()


def test_top_p_keeps_the_smallest_set_with_the_mass() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.3, 0.1])
    assert (keep_top_p(probabilities, mass=0.6) > 0).tolist() == [False, True, True, False]
    assert (keep_top_p(probabilities, mass=0.0) > 0).tolist() == [False, True, False, False]
    assert torch.equal(keep_top_p(probabilities, mass=1.0), probabilities)


def test_repetition_penalty_weakens_what_was_seen() -> None:
    changed = penalise_repetition(LOGITS[0], seen=torch.tensor([1, 3]), penalty=2.0)
    assert changed.tolist() == [1.0, 1.5, 2.0, -2.0]


def test_presence_and_frequency_count_the_answer_and_not_the_prompt() -> None:
    assert choose(make_sampler(temperature=0.0, presence_penalty=2.0)) == 1
    answer = torch.tensor([[1, 1]])
    assert choose(make_sampler(temperature=0.0, presence_penalty=2.0), seen=answer) == 2
    assert choose(make_sampler(temperature=0.0, frequency_penalty=0.9), seen=answer) == 1
    assert choose(make_sampler(temperature=0.0, frequency_penalty=0.9), seen=torch.tensor([[1, 1, 1]])) == 2


def test_logprobs_are_taken_before_any_change() -> None:
    sampler = make_sampler(temperature=0.0, presence_penalty=2.0, top_logprobs=2)
    assert choose(sampler, seen=torch.tensor([[1, 1]])) == 2
    wanted = LOGITS[0].log_softmax(-1).tolist()
    measured = sampler.logprobs.popleft()
    assert measured and math.isclose(measured.chosen, wanted[2], rel_tol=1e-5)
    assert [token_id for token_id, _ in measured.top] == [1, 2]


def test_the_models_own_values_apply_when_a_request_says_nothing() -> None:
    defaults = SamplingDefaults(temperature=0.6, top_p=0.9, top_k=20, repetition_penalty=1.1)
    plan = plan_sampling(Sampling(top_p=1.0), defaults=defaults)
    assert (plan.temperature, plan.top_p, plan.top_k, plan.repetition_penalty) == (0.6, 1.0, 20, 1.1)
    assert plan_sampling(Sampling(temperature=0.0), defaults=defaults).temperature == 0.0
