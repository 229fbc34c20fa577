"""The picture of a cache's use: coordinates from measurements."""

import re

import pytest

from cachemgr.plots import HEIGHT, WIDTH, Point, draw

HOUR = 3600.0
GB = 10**9


def points(*used_gb: float, state: str = "ok", step: float = HOUR) -> list[Point]:
    return [Point(number * step, round(used * GB), state) for number, used in enumerate(used_gb)]


def coordinates(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", path)]


def test_time_runs_from_left_to_right_and_use_from_the_floor_up() -> None:
    plot = draw(points(0, 5, 10), since=0, until=2 * HOUR, limit_bytes=10 * GB)
    (left, floor), (middle, half), (right, high) = coordinates(plot.line)
    assert (left, middle, right) == (0, WIDTH / 2, WIDTH)
    assert floor == HEIGHT and high < half < floor
    assert plot.area.endswith("V100 H0.0 Z")


@pytest.mark.parametrize(("used_gb", "is_shown"), [(1, False), (2.5, True), (10, True), (30, True)])
def test_the_limit_is_drawn_once_the_use_is_not_small_beside_it(used_gb: float, is_shown: bool) -> None:
    plot = draw(points(used_gb, used_gb), since=0, until=HOUR, limit_bytes=10 * GB)
    assert (plot.limit_y is not None) == is_shown
    assert plot.top_bytes >= used_gb * GB
    assert all(0 <= y <= HEIGHT for _, y in coordinates(plot.line))


def test_a_time_without_measurements_is_a_gap_and_no_line() -> None:
    away = [*points(1, 1, 1), Point(20 * HOUR, GB, "ok"), Point(21 * HOUR, GB, "ok")]
    assert draw(away, since=0, until=24 * HOUR, limit_bytes=None).line.count("M") == 2


def test_a_time_in_which_the_drive_was_away_is_one_band_up_to_its_return() -> None:
    states = ["ok", "unmounted", "unmounted", "ok", "read_only", "unresponsive"]
    measured = [Point(number * HOUR, GB, state) for number, state in enumerate(states)]
    plot = draw(measured, since=0, until=10 * HOUR, limit_bytes=None)
    assert [(band.left, band.width, band.state) for band in plot.bands] == [
        (100.0, 200.0, "unmounted"),
        (500.0, 100.0, "unresponsive"),
    ]


def test_one_measurement_can_be_seen() -> None:
    assert len(coordinates(draw(points(1), since=0, until=HOUR, limit_bytes=None).line)) == 2


@pytest.mark.parametrize(
    ("used_gb", "sentence"),
    [
        ([], "No measurement in this time."),
        ([2, 3, 2], "Steady at 2.0 GB."),
        ([2, 3.5], "Grew by 1.5 GB, to 3.5 GB."),
        ([3.5, 0], "Shrank by 3.5 GB, to 0 B."),
    ],
)
def test_a_sentence_says_what_the_picture_shows(used_gb: list[float], sentence: str) -> None:
    plot = draw(points(*used_gb), since=0, until=HOUR, limit_bytes=GB)
    assert plot.summary == sentence
    assert (plot.line == "") == (not used_gb)
