"""Many requests in one step of the model, compared with each alone."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: TID253

from inference.engine import batching
from inference.engine.backend import Failed, Finished, Sampling, Token
from inference.engine.batching import BatchingRunner
from inference.engine.loading import LoadedModel
from tests.inference.engine.conftest import only_on_cpu
from tests.inference.engine.inside import Counting, Told, load, make_prompt, make_runner, run, run_plainly

MIXED: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.0, "seed": 1},
    {"temperature": 0.7, "seed": 2, "top_p": 0.8},
    {"temperature": 1.3, "seed": 3, "top_k": 20},
    {"temperature": 0, "repetition_penalty": 1.5},
    {"temperature": 0, "presence_penalty": 1.0, "frequency_penalty": 0.5},
    {"temperature": 1.0, "seed": 4, "top_logprobs": 3},
    {"temperature": 1.0, "seed": 5, "top_k": 50, "top_p": 0.9},
]


def ask_mixed(*, tokens: int = 24) -> list[Told]:
    return [
        Told(make_prompt(number, length=5 + 7 * number), tokens=tokens, sampling=Sampling(**sampling))
        for number, sampling in enumerate(MIXED)
    ]


def test_one_greedy_request_says_what_generate_says(loaded: LoadedModel, runner: BatchingRunner) -> None:
    prompt = make_prompt(1, length=11)
    (told,) = asked = [Told(prompt, tokens=60)]
    run(runner, asked)
    assert told.ids == run_plainly(loaded, prompt, tokens=60)
    assert told.end == Finished("length" if len(told.ids) == 60 else "stop")


def test_eight_requests_together_say_what_each_says_alone(loaded: LoadedModel, runner: BatchingRunner) -> None:
    """Greedy ones what `generate` says; sampled ones what their seed says, whoever is beside them."""
    alone = ask_mixed()
    for each in alone:
        run(runner, [each])
    together = ask_mixed()
    run(runner, together)
    assert [each.ids for each in together] == [each.ids for each in alone]
    assert together[0].ids == run_plainly(loaded, together[0].prompt_ids, tokens=24)
    measured = [event.logprobs for event in together[6].events if isinstance(event, Token)]
    assert all(each and each.chosen <= 0 and len(each.top) == 3 for each in measured)


def test_requests_come_and_go_between_steps(loaded: LoadedModel, runner: BatchingRunner) -> None:
    asked = [Told(make_prompt(number, length=9 + number), tokens=3 + 5 * (number % 4)) for number in range(20)]
    run(runner, asked)
    for each in asked[::6]:
        assert each.ids == run_plainly(loaded, each.prompt_ids, tokens=each.tokens)
    assert all(each.end for each in asked)


@only_on_cpu
def test_a_long_prompt_is_read_in_parts_and_others_go_on_meanwhile(small_folder: Path) -> None:
    loaded, runner = load(small_folder), make_runner(small_folder)
    other, long = Told(make_prompt(1, length=9), tokens=60), Told(make_prompt(2, length=700), tokens=5)
    runner.admit(other.generation)
    runner.step()
    runner.admit(long.generation)
    steps = 0
    while not long.events:
        runner.step()
        steps += 1
    assert steps > 2
    assert len(other.ids) >= steps
    run(runner, [])
    assert long.ids[:1] == run_plainly(loaded, long.prompt_ids, tokens=1)


def test_shared_beginnings_are_read_once_and_change_nothing(loaded: LoadedModel, model_folder: Path) -> None:
    runner = make_runner(model_folder)
    start = make_prompt(1, length=300)
    first, *others = [Told([*start, *make_prompt(number, length=9)], tokens=12) for number in range(5)]
    pace = Counting()
    runner._pace = pace
    run(runner, [first])
    assert pace.tokens > 300
    pace.tokens = 0
    run(runner, others)
    assert pace.tokens < 4 * (300 - 2 * 128 + 9 + 12)
    for each in (first, *others):
        assert each.ids == run_plainly(loaded, each.prompt_ids, tokens=12)


def test_more_requests_than_a_step_usually_has_tokens_go_on_together(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "STEP_TOKENS_CPU", 4)
    runner = make_runner(model_folder)
    asked = [Told(make_prompt(number, length=9), tokens=60) for number in range(8)]
    for each in asked:
        runner.admit(each.generation)
    for _ in range(40):
        runner.step()
    assert min(len(each.ids) for each in asked) > 10


def test_a_request_that_transformers_has_lost_is_an_error_and_no_endless_wait(runner: BatchingRunner) -> None:
    lost, later = Told(make_prompt(1, length=9)), Told(make_prompt(2, length=9))
    runner.admit(lost.generation)
    runner.step()
    with torch.inference_mode():
        runner.batches.forget_all()
    steps = runner.steps
    with pytest.raises(RuntimeError, match="1 requests wait"):
        runner.step()
    assert runner.steps == steps
    assert runner.recover() == [lost.generation]
    run(runner, [later])
    assert later.end


def test_who_is_dropped_is_told_nothing_more_and_takes_no_step(runner: BatchingRunner) -> None:
    dropped, other = Told(make_prompt(1, length=9), tokens=100), Told(make_prompt(2, length=9), tokens=30)
    for each in (dropped, other):
        runner.admit(each.generation)
    for _ in range(5):
        runner.step()
    dropped.generation.cancelled.set()
    told = len(dropped.events)
    runner.drop(dropped.generation)
    while other.end is None:
        runner.step()
        assert len(runner.batches.scheduled_ids) == 1
    assert len(dropped.events) == told


@only_on_cpu
@pytest.mark.parametrize("is_alone", [True, False])
def test_who_leaves_while_his_prompt_is_read_ends_the_step_unless_others_are_read_in_it(
    loaded: LoadedModel, model_folder: Path, is_alone: bool
) -> None:
    runner = make_runner(model_folder)
    first, *_, last = runner.batches._model.model.layers
    leaves, stays = Told(make_prompt(1, length=40)), Told(make_prompt(2, length=9))
    passes: list[Any] = []
    hooks = [
        first.register_forward_pre_hook(lambda *_: leaves.generation.cancelled.set()),
        last.register_forward_pre_hook(lambda *_: passes.append(runner.batches.scheduled_ids)),
    ]
    runner.admit(leaves.generation)
    if not is_alone:
        runner.admit(stays.generation)
    ended = runner.step()
    assert (ended, passes) == (([leaves.generation], []) if is_alone else ([], [["0", "1"]]))
    assert (runner.steps > 7) != is_alone, "Each layer shows that the model goes on."
    for hook in hooks:
        hook.remove()
    runner.drop(leaves.generation)
    run(runner, [stays] if is_alone else [])
    while not stays.end:
        runner.step()
    assert stays.ids == run_plainly(loaded, stays.prompt_ids)
    assert not leaves.events


@only_on_cpu
def test_a_step_that_fails_costs_the_newcomer_only(loaded: LoadedModel, runner: BatchingRunner) -> None:
    """A token that the model does not have makes the whole step fail."""
    others = [Told(make_prompt(number, length=20), tokens=40) for number in range(3)]
    for each in others:
        runner.admit(each.generation)
    for _ in range(4):
        runner.step()
    poison = Told([5, 10**6], tokens=5)
    runner.admit(poison.generation)
    with pytest.raises(IndexError):
        runner.step()
    assert runner.recover() == [poison.generation]
    while not all(each.end for each in others):
        runner.step()
    for each in others:
        assert each.ids == run_plainly(loaded, each.prompt_ids, tokens=40)


def test_a_request_without_numbers_fails_alone(model_folder: Path) -> None:
    """One token's embedding is damaged."""
    runner = make_runner(model_folder)
    with torch.inference_mode():
        runner.batches._model.get_input_embeddings().weight[7] = math.nan
    good, bad = Told([5, 6], tokens=5), Told([5, 7], tokens=5)
    run(runner, [good, bad])
    assert isinstance(bad.end, Failed)
    assert "NaN" in bad.end.message
    assert isinstance(good.end, Finished)
