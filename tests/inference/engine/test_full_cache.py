"""Requests that have to share fewer pages than all of them need."""

from pathlib import Path

from inference.engine.backend import Finished, Sampling
from inference.engine.batching import BatchingRunner
from inference.engine.loading import LoadedModel
from tests.inference.engine.conftest import never_end, only_on_cpu
from tests.inference.engine.inside import (
    GREEDY,
    Counting,
    Told,
    make_prompt,
    make_runner,
    run,
    run_plainly,
    step_until,
)


def crowd(runner: BatchingRunner, *, count: int, tokens: int) -> tuple[list[Told], list[Told]]:
    """Asks a fresh runner for more than its pages hold, until one gives up its own. Who waits then, and who goes on."""
    asked = {str(number): Told(make_prompt(number, length=200), tokens=tokens) for number in range(count)}
    for each in asked.values():
        runner.admit(each.generation)
    scheduler = runner.batches._processor.scheduler
    step_until(runner, lambda: scheduler.block_new_requests)
    waiting, active = scheduler.waiting_requests, scheduler.active_requests
    return [asked[name] for name in waiting], [asked[name] for name in active]


def leave(runner: BatchingRunner, leavers: list[Told]) -> None:
    for each in leavers:
        each.generation.cancelled.set()
        runner.drop(each.generation)


@only_on_cpu
def test_a_full_cache_changes_no_token(loaded: LoadedModel, runner: BatchingRunner, model_folder: Path) -> None:
    """Five requests in a cache for two: some lose their pages and are read again, with their sampling where it was."""
    asked = [
        Told(make_prompt(number, length=100), tokens=150, sampling=sampling)
        for number, sampling in enumerate(
            [GREEDY, GREEDY, Sampling(seed=7), Sampling(seed=8, presence_penalty=0.5), GREEDY]
        )
    ]
    tight = make_runner(model_folder, kv_tokens=512)
    pace = Counting()
    tight._pace = pace
    run(tight, asked)
    assert pace.tokens > 1.1 * 5 * 250, "Nobody lost pages: the cache was not full."
    for each in (asked[0], asked[1], asked[4]):
        assert each.ids == run_plainly(loaded, each.prompt_ids, tokens=150)
    for each in asked[2:4]:
        again = Told(each.prompt_ids, tokens=150, sampling=each.sampling)
        run(runner, [again])
        assert each.ids == again.ids


def test_no_request_can_be_longer_than_the_cache(model_folder: Path) -> None:
    runner = make_runner(model_folder, kv_tokens=256)
    assert runner.facts.context_length == 256
    assert runner.facts.kv_tokens == 256
    asked = [Told(make_prompt(number, length=200), tokens=56) for number in range(2)]
    run(runner, asked)
    assert all(isinstance(each.end, Finished) for each in asked)


def test_who_waits_is_let_in_when_all_who_were_before_him_left(copied_folder: Path) -> None:
    """transformers keeps new requests out while one that lost its pages waits for another to finish."""
    runner = make_runner(never_end(copied_folder), kv_tokens=512)
    waiting, active = crowd(runner, count=3, tokens=250)
    leave(runner, active)
    while not all(each.end for each in waiting):
        runner.step()
    assert waiting
    assert all(isinstance(each.end, Finished) for each in waiting)


def test_who_waits_is_let_in_when_one_of_those_before_him_left(copied_folder: Path) -> None:
    """The one who goes on may do so for long. There is room for one beside him."""
    runner = make_runner(never_end(copied_folder), kv_tokens=768)
    waiting, (stays, *leavers) = crowd(runner, count=4, tokens=300)
    leave(runner, leavers)
    before = [len(each.ids) for each in waiting]
    for _ in range(20):
        runner.step()
    assert leavers and waiting and stays.end is None
    assert any(len(each.ids) > count for each, count in zip(waiting, before, strict=True))


@only_on_cpu
def test_all_who_ask_the_same_are_answered_at_the_same_time(loaded: LoadedModel, model_folder: Path) -> None:
    """They share the pages of their prompt, which has room for five times in all."""
    runner = make_runner(model_folder, kv_tokens=2048)
    prompt = make_prompt(1, length=400)
    run(runner, [Told(prompt, tokens=1)])
    asked = [Told(prompt, tokens=12) for _ in range(8)]
    for each in asked:
        runner.admit(each.generation)
    for _ in range(10):
        runner.step()
    assert min(len(each.ids) for each in asked) > 3
    while not all(each.end for each in asked):
        runner.step()
    assert all(each.ids == run_plainly(loaded, prompt, tokens=12) for each in asked)
