"""How long a step may last, for those who wait for their next token and those who leave."""

from inference.engine.pace import Pace


def make_pace(*, seconds: float = 0.0, tokens: int = 100) -> Pace:
    """One that has seen steps of so many tokens that took so long, or none."""
    pace = Pace(most_tokens=512)
    for _ in range(20 if seconds else 0):
        pace.note(tokens=tokens, seconds=seconds)
    return pace


def test_alone_a_prompt_is_read_in_steps_of_less_than_a_second() -> None:
    assert make_pace(seconds=0.1).choose_tokens(answering=0) == 512
    assert 390 <= make_pace(seconds=0.2).choose_tokens(answering=0) <= 400


def test_beside_answers_it_is_read_in_parts_of_less_than_half_a_second() -> None:
    assert 400 <= make_pace(seconds=0.1).choose_tokens(answering=3) <= 404


def test_what_the_weights_cost_is_paid_once_in_a_step_and_not_for_each_token() -> None:
    pace = make_pace()
    pace.note(tokens=16, seconds=0.1)
    pace.note(tokens=70, seconds=0.24)  # 2 ms for each token
    assert 160 <= pace.choose_tokens(answering=16) <= 166
    assert 345 <= pace.choose_tokens(answering=0) <= 350


def test_the_first_step_is_small_and_the_next_ones_are_what_it_showed() -> None:
    pace = make_pace()
    assert (pace.choose_tokens(answering=0), pace.choose_tokens(answering=3)) == (256, 67)
    pace.note(tokens=64, seconds=0.064)
    assert (pace.choose_tokens(answering=0), pace.choose_tokens(answering=3)) == (512, 403)


def test_a_slow_model_reads_as_little_as_it_can_without_becoming_slower_and_a_fast_one_all() -> None:
    slow, fast = make_pace(tokens=512, seconds=60), make_pace(tokens=512, seconds=0.01)
    assert (slow.choose_tokens(answering=8), fast.choose_tokens(answering=8)) == (72, 512)
    assert (slow.choose_tokens(answering=0), fast.choose_tokens(answering=0)) == (256, 512)


def test_one_fast_step_shows_more_than_slow_ones_before_it() -> None:
    pace = make_pace(tokens=64, seconds=0.64)
    pace.note(tokens=80, seconds=0.08)
    assert pace.choose_tokens(answering=0) == 512


def test_one_slow_step_may_have_been_disturbed_and_many_were_not() -> None:
    pace = make_pace(tokens=512, seconds=0.3)
    pace.note(tokens=512, seconds=1.8)
    assert pace.choose_tokens(answering=0) == 512
    for _ in range(20):
        pace.note(tokens=512, seconds=1.6)
    assert pace.choose_tokens(answering=0) == 256


def test_a_slow_model_whose_weights_alone_take_too_long_goes_on_in_small_steps() -> None:
    pace = make_pace(tokens=100, seconds=9)
    pace.note(tokens=1, seconds=5)
    assert (pace.choose_tokens(answering=0), pace.choose_tokens(answering=1)) == (256, 65)


def test_a_disturbed_small_step_is_no_reason_to_think_that_tokens_cost_nothing() -> None:
    pace = make_pace()
    pace.note(tokens=1, seconds=3)
    pace.note(tokens=100, seconds=1)
    assert pace.choose_tokens(answering=1) == 65
