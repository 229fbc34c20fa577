"""Times as people write them."""

import pytest

from homelab.durations import FOR_EVER, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300", 300),
        ("30s", 30),
        ("10m", 600),
        ("1.5h", 5400),
        ("200ms", 0.2),
        ("0", 0),
        (" 5m ", 300),
        ("9" * 400, 1e9),
    ],
)
def test_a_time_has_a_unit_or_is_in_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["-1", "-1m", "-0.5"])
def test_whatever_is_below_zero_is_for_ever(text):
    assert parse_duration(text) == FOR_EVER


@pytest.mark.parametrize("text", ["", "soon", "5 m", "5d", "m", "-", "-x", "1e3", "nan", "-inf", "٥m", "5m\n5m"])
def test_all_else_is_no_time(text):
    assert parse_duration(text) is None
