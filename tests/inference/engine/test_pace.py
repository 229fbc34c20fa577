"""How long others may have to wait for their next token."""

from inference.engine.pace import Pace


def test_alone_a_prompt_is_read_as_fast_as_it_can_be() -> None:
    pace = Pace(most_tokens=512)
    pace.note(tokens=512, seconds=60.0)
    assert pace.choose_tokens(answering=0) == 512


def test_beside_answers_it_is_read_in_parts_of_a_quarter_of_a_second() -> None:
    pace = Pace(most_tokens=512)
    assert pace.choose_tokens(answering=3) == 67
    for _ in range(20):
        pace.note(tokens=100, seconds=0.1)
    assert 250 <= pace.choose_tokens(answering=3) <= 254


def test_a_slow_model_reads_a_little_in_each_step_and_a_fast_one_all() -> None:
    slow, fast = Pace(most_tokens=512), Pace(most_tokens=512)
    slow.note(tokens=512, seconds=60.0)
    fast.note(tokens=512, seconds=0.01)
    assert (slow.choose_tokens(answering=8), fast.choose_tokens(answering=8)) == (72, 512)


def test_a_step_of_single_tokens_teaches_nothing() -> None:
    pace = Pace(most_tokens=512)
    pace.note(tokens=100, seconds=0.1)
    for _ in range(50):
        pace.note(tokens=1, seconds=0.1)
    assert pace.choose_tokens(answering=0) == 512
    assert pace.choose_tokens(answering=1) == 251
