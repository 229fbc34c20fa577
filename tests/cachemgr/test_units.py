"""Sizes and times for people."""

from datetime import timedelta

import pytest
from django.template import Context, Template
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from cachemgr.units import format_bytes, format_duration


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"), (1, "1 B"), (-5, "-5 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"),
        (99_950, "100 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"), (1_234_567_890, "1.2 GB"),
        (10**11, "100 GB"), (999_499_999_999, "999 GB"), (10**12, "1.0 TB"), (5 * 10**15, "5000 TB"),
        (-2 * 10**9, "-2.0 GB"),
    ],
)  # fmt: skip
def test_a_size_is_written_in_the_unit_that_reads_best(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text


@given(st.integers(min_value=0, max_value=999 * 10**12))
def test_a_size_never_shows_four_digits_and_is_off_by_five_percent_at_most(size_bytes: int) -> None:
    number, unit = format_bytes(size_bytes).split()
    exact = float(number) * {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}[unit]
    assert float(number) < 1000
    assert abs(exact - size_bytes) <= 0.05 * size_bytes


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.4, "0 s"), (89.4, "89 s"), (90, "2 min"), (5369, "89 min"), (5370, "1 h 30 min"),
        (7384, "2 h 3 min"), (172_769, "47 h 59 min"), (172_770, "2 days"), (10**6, "11 days"),
    ],
)  # fmt: skip
def test_a_time_is_written_as_one_says_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_moment_is_said_relative_to_now_with_the_exact_one_on_hover() -> None:
    moment = timezone.now() - timedelta(minutes=3)
    text = Template("{% load units %}{% when moment %}").render(Context({"moment": moment}))
    assert text.endswith(">3 min ago</time>")
    assert f'title="{moment:%Y-%m-%d %H:%M:%S} UTC"' in text
    assert f'datetime="{moment.isoformat()}"' in text


def test_what_never_was_is_said_in_the_words_of_the_page() -> None:
    assert Template('{% load units %}{% when None never="not yet" %}').render(Context()) == "not yet"
