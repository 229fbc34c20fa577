"""How tokens are chosen, on logits made by hand."""

import math
from typing import Any

import pytest
import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from inference.engine.backend import Sampling
from inference.engine.sampling import (
    Sampler,
    SamplingDefaults,
    choose_tokens,
    keep_nucleus,
    pick,
    plan_sampling,
    take_largest,
    weaken,
)

LOGITS = [1.0, 3.0, 2.0, -1.0]


def make_sampler(*, prompt: tuple[int, ...] = (), **asked: Any) -> Sampler:
    return Sampler(plan_sampling(Sampling(**asked), defaults=SamplingDefaults()), prompt_ids=prompt)


def make_rows(*rows: list[float]) -> Tensor:
    return torch.tensor(rows or [LOGITS])


def choose(sampler: Sampler, logits: list[float] = LOGITS) -> int:
    (chosen,) = choose_tokens(make_rows(logits), [sampler])
    assert chosen
    return chosen.token_id


def count_choices(sampler: Sampler, *, logits: list[float] = LOGITS, times: int = 4000) -> list[float]:
    counts = [0] * len(logits)
    for _ in range(times):
        counts[choose(sampler, logits)] += 1
    return [count / times for count in counts]


def test_temperature_zero_takes_the_most_probable_token() -> None:
    assert choose(make_sampler(temperature=0.0)) == 1


def test_a_tiny_temperature_is_greedy_and_not_infinite() -> None:
    assert choose(make_sampler(temperature=1e-30)) == 1


def test_tokens_come_as_often_as_their_probability() -> None:
    assert count_choices(make_sampler(seed=1)) == pytest.approx(torch.tensor(LOGITS).softmax(-1).tolist(), abs=0.03)


def test_tokens_come_as_often_as_their_probability_in_a_large_vocabulary() -> None:
    """Of 1000 words two are likely, at both ends."""
    logits = [-20.0] * 1000
    logits[0], logits[999] = 0.0, math.log(3)
    shares = count_choices(make_sampler(seed=1), logits=logits, times=2000)
    assert (shares[0], shares[999]) == pytest.approx((0.25, 0.75), abs=0.04)


def test_temperature_flattens() -> None:
    wanted = (torch.tensor(LOGITS) / 3).softmax(-1).tolist()
    assert count_choices(make_sampler(seed=1, temperature=3.0)) == pytest.approx(wanted, abs=0.03)


def test_the_same_seed_chooses_the_same_tokens() -> None:
    first, second = make_sampler(seed=5), make_sampler(seed=5)
    assert [choose(first) for _ in range(30)] == [choose(second) for _ in range(30)]


def test_a_seed_means_the_same_among_others_as_alone() -> None:
    asked: list[dict[str, Any]] = [
        {"seed": 1},
        {"seed": 2, "top_k": 3},
        {"temperature": 0.0},
        {"seed": 3, "top_p": 0.8, "temperature": 1.5},
        {"seed": 4, "top_k": 2, "top_p": 0.9, "presence_penalty": 1.0},
        {"seed": 5, "repetition_penalty": 1.3, "top_logprobs": 2},
    ]
    alone = [[choose(sampler) for _ in range(20)] for sampler in (make_sampler(**each) for each in asked)]
    samplers = [make_sampler(**each) for each in asked]
    together = [choose_tokens(make_rows(*[LOGITS] * len(asked)), samplers) for _ in range(20)]
    assert [[each[row].token_id for each in together] for row in range(len(asked))] == alone


@pytest.mark.parametrize("seed", [-1, 0, 2**64 - 1, 2**70])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    assert choose(make_sampler(seed=seed)) in range(4)


def test_a_request_leaves_the_random_numbers_of_others_alone() -> None:
    state = torch.random.get_rng_state()
    choose(make_sampler(seed=5))
    choose(make_sampler())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("top_k", "possible"), [(2, {1, 2}), (3, {0, 1, 2}), (-1, {0, 1, 2, 3}), (99, {0, 1, 2, 3})])
def test_top_k_leaves_so_many(top_k: int, possible: set[int]) -> None:
    sampler = make_sampler(seed=1, top_k=top_k, temperature=100.0)
    assert {choose(sampler) for _ in range(200)} == possible


@pytest.mark.parametrize(
    ("mass", "kept"),
    [(0.6, [0, 1, 1, 0]), (0.5, [0, 1, 0, 0]), (0.0, [0, 1, 0, 0]), (0.95, [1, 1, 1, 1]), (1.0, [1, 1, 1, 1])],
)
def test_top_p_keeps_the_smallest_set_with_the_mass(mass: float, kept: list[int]) -> None:
    """The two that are equally likely stay or go together."""
    weights = torch.tensor([[0.1, 0.5, 0.3, 0.1]]) * 7
    assert (keep_nucleus(weights, masses=torch.tensor([[mass]])) > 0).int().tolist() == [kept]


def test_what_is_as_large_as_the_last_of_top_k_stays() -> None:
    """As with transformers: which of them goes would depend on who is beside."""
    sampler = make_sampler(seed=1, top_k=2, temperature=100.0)
    assert {choose(sampler, [1.0, 2.0, 1.0, 0.0, 1.0]) for _ in range(200)} == {0, 1, 2, 4}


def test_of_many_equal_logits_all_stay() -> None:
    values, ids = take_largest(
        torch.tensor([[1.0] * 900 + [0.0] * 100, [*range(1000)]]), counts=torch.tensor([[3], [5]])
    )
    assert ids[0, :900].tolist() == list(range(900))
    assert values[0, :900].eq(1).all() and values[0, 900:].eq(-math.inf).all()
    assert (ids[1, :5].tolist(), values[1, :5].tolist()) == ([995, 996, 997, 998, 999], [995, 996, 997, 998, 999])
    assert values[1, 5:].eq(-math.inf).all()


def test_a_seed_with_top_k_means_the_same_among_others_in_16_bits() -> None:
    """Many of their logits are equal."""
    generator = torch.Generator().manual_seed(0)
    mate = {"seed": 1, "top_k": 1000}
    for seed in range(40):
        row = torch.randn(8000, generator=generator).mul(2).bfloat16().float()
        asked = {"seed": seed, "top_k": 40, "top_p": 0.95 if seed % 2 else 1.0}
        (alone,) = choose_tokens(row.clone()[None], [make_sampler(**asked)])
        first, _ = choose_tokens(torch.stack([row, row]), [make_sampler(**asked), make_sampler(**mate)])
        assert first.token_id == alone.token_id


def test_top_k_comes_before_top_p() -> None:
    """Of the two that top-k leaves, the first has 73 %, of all four only 64 %."""
    sampler = make_sampler(seed=1, top_k=2, top_p=0.7)
    assert {choose(sampler) for _ in range(100)} == {1}
    sampler = make_sampler(seed=1, top_p=0.7)
    assert {choose(sampler) for _ in range(100)} == {1, 2}


@pytest.mark.parametrize(
    ("share", "index"), [(0.0, 1), (0.24, 1), (0.26, 300), (0.74, 300), (0.76, 500), (1 - 1e-16, 500)]
)
def test_pick_takes_what_the_running_sum_passes_at(share: float, index: int) -> None:
    weights = torch.zeros(1, 600)
    weights[0, 1], weights[0, 300], weights[0, 500] = 1, 2, 1
    assert pick(weights, uniforms=torch.tensor([share], dtype=torch.float64)).tolist() == [index]


def test_repetition_penalty_weakens_what_was_seen() -> None:
    assert weaken(torch.tensor([3.0, -1.0]), penalty=2.0).tolist() == [1.5, -2.0]
    sampler = make_sampler(temperature=0.0, repetition_penalty=2.0, prompt=(1,))
    assert [choose(sampler) for _ in range(3)] == [2, 1, 1]


def test_presence_and_frequency_count_the_answer_and_not_the_prompt() -> None:
    sampler = make_sampler(temperature=0.0, presence_penalty=1.5, prompt=(1,))
    assert [choose(sampler) for _ in range(3)] == [1, 2, 1]
    sampler = make_sampler(temperature=0.0, frequency_penalty=0.6, prompt=(1,))
    assert [choose(sampler) for _ in range(4)] == [1, 1, 2, 1]


def test_logprobs_are_taken_before_any_change() -> None:
    sampler = make_sampler(temperature=0.0, repetition_penalty=4.0, top_logprobs=2, prompt=(1,))
    (chosen,) = choose_tokens(make_rows(), [sampler], banned=torch.tensor([0]))
    wanted = torch.tensor(LOGITS).log_softmax(-1).tolist()
    assert chosen and chosen.token_id == 2
    assert math.isclose(chosen.logprobs.chosen, wanted[2], rel_tol=1e-5)
    assert [token_id for token_id, _ in chosen.logprobs.top] == [1, 2]


def test_what_is_banned_is_never_chosen() -> None:
    for sampler in (make_sampler(temperature=0.0), make_sampler(seed=1), make_sampler(seed=1, top_k=3)):
        chosen = [choose_tokens(make_rows(), [sampler], banned=torch.tensor([1])) for _ in range(50)]
        assert 1 not in {each.token_id for (each,) in chosen}


def test_a_row_without_numbers_has_no_token_and_harms_no_other() -> None:
    rows = make_rows(LOGITS, [math.nan] * 4, LOGITS)
    first, broken, last = choose_tokens(
        rows, [make_sampler(seed=1), make_sampler(seed=1), make_sampler(temperature=0.0)]
    )
    assert (broken, last.token_id) == (None, 1)
    assert first.token_id == choose(make_sampler(seed=1))


def test_the_models_own_values_apply_when_a_request_says_nothing() -> None:
    defaults = SamplingDefaults(temperature=0.6, top_p=0.9, top_k=20, repetition_penalty=1.1)
    plan = plan_sampling(Sampling(top_p=1.0), defaults=defaults)
    assert (plan.temperature, plan.top_p, plan.top_k, plan.repetition_penalty) == (0.6, 1.0, 20, 1.1)
    assert plan_sampling(Sampling(temperature=0.0), defaults=defaults).temperature == 0.0
