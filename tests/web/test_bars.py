"""The bars: every byte is in one piece, what is small is merged, and marks stand where the limits are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachemgr.space import CacheFigures, Pool
from web.bars import MOST_MODELS, Bar, Held, draw_cache, draw_disk

GB = 10**9


def figures(**values: Any) -> CacheFigures:
    """A cache of 100 GB on a disk of 1000 GB, of which 400 are free."""
    free = values.pop("free", 400 * GB)
    usual = {
        "location": "primary",
        "path": "/fast",
        "state": "ok",
        "limit_bytes": 100 * GB,
        "used_bytes": 50 * GB,
        "reserved_bytes": 0,
        "disk_total_bytes": 1000 * GB,
        "disk_used_bytes": 550 * GB,
    } | values
    return CacheFigures(pools=(Pool(free, usual["reserved_bytes"]),), **usual)


def sizes(bar: Bar) -> dict[str, float]:
    """In GB, by kind and words; pieces of nothing left out."""
    return {piece.words: piece.size_bytes / GB for piece in bar.pieces if piece.size_bytes}


def marks(bar: Bar) -> dict[str, float]:
    return {mark.words: mark.at for mark in bar.marks}


def draw(*models: Held, **values: Any) -> Bar:
    return draw_cache(models, figures=figures(**values), threshold=0.9)


def test_models_come_first_and_the_largest_of_them() -> None:
    bar = draw(Held("small", 5 * GB), Held("large", 30 * GB, "/large"), reserved_bytes=10 * GB)
    assert sizes(bar) == {"large": 30, "small": 5, "other files in it": 15, "reserved": 10, "free": 40}
    assert [piece.width for piece in bar.pieces] == [30, 5, 15, 10, 40, 0]
    assert bar.models[0].address == "/large" and bar.models[0].is_named and not bar.models[1].is_named
    assert marks(bar) == {"warns at 90%": 90}


def test_where_the_disk_has_less_than_the_limit_allows_the_bar_says_so() -> None:
    assert sizes(draw(free=20 * GB)) == {
        "other files in it": 50,
        "free": 20,
        "of its limit, for which the disk has no room": 30,
    }


def test_above_its_limit_the_bar_is_as_wide_as_what_lies_there_and_the_limit_is_inside() -> None:
    bar = draw(Held("x", 150 * GB), used_bytes=150 * GB, reserved_bytes=50 * GB)
    assert sizes(bar) == {"x": 150, "reserved": 50} and marks(bar) == {"limit 100 GB": 50}


def test_a_custom_cache_shows_its_disk() -> None:
    bar = draw(Held("x", 50 * GB), limit_bytes=None)
    assert sizes(bar) == {"x": 50, "other files on the disk": 500, "free": 400, "kept by the system": 50}


def test_many_small_models_are_one_piece() -> None:
    models = [Held("large", 20 * GB), *(Held(f"small-{number}", GB // 10) for number in range(300))]
    bar = draw(*models)
    assert sizes(bar) == {"large": 20, "300 smaller models": 30, "free": 50}
    only_small = draw(*models[1:])
    assert "300 models" in sizes(only_small)
    assert "small-0" in sizes(draw(*models[:2])), "one small model keeps its name"


def test_no_more_than_so_many_pieces_are_models() -> None:
    bar = draw(*(Held(f"{number:03}", 2 * GB) for number in range(40)), used_bytes=80 * GB)
    assert len(bar.models) == MOST_MODELS + 1 and "16 smaller models" in sizes(bar)


def test_files_that_models_share_are_not_counted_twice() -> None:
    assert sizes(draw(Held("a", 50 * GB), Held("b", 50 * GB))) == {"a": 25, "b": 25, "free": 50}


@pytest.mark.parametrize("limit", [None, 100 * GB])
def test_of_a_drive_that_nobody_has_seen_there_is_no_bar(limit: int | None) -> None:
    unknown = figures(limit_bytes=limit, disk_total_bytes=0, disk_used_bytes=0, used_bytes=0, free=0)
    assert draw_disk(unknown, ours_bytes=0) == Bar(())
    if limit is None:
        assert draw_cache([], figures=unknown, threshold=0.9) == Bar(())


def test_the_disk_shows_how_far_the_cache_may_grow() -> None:
    bar = draw_disk(figures(reserved_bytes=10 * GB), ours_bytes=45 * GB)
    assert sizes(bar) == {"here": 45, "reserved": 10, "free": 390, "others": 505, "kept by the system": 50}
    assert [piece.words for piece in bar.pieces][:2] == ["others", "here"], "what is used is on the left"
    assert marks(bar) == {"its limit": 60.5}
    assert marks(draw_disk(figures(limit_bytes=2000 * GB), ours_bytes=0)) == {}


SIZES = st.integers(0, 200 * GB)


@given(st.lists(SIZES, max_size=60), SIZES, SIZES, SIZES, st.booleans())
def test_the_pieces_are_the_whole_bar_whatever_the_figures(
    models: list[int], used: int, reserved: int, free: int, is_limited: bool
) -> None:
    total = 1000 * GB
    shown = figures(
        limit_bytes=100 * GB if is_limited else None,
        used_bytes=used,
        reserved_bytes=reserved,
        free=free,
        disk_used_bytes=max(used, total - free - 10 * GB),
        disk_total_bytes=total,
    )
    bar = draw_cache([Held(str(number), size) for number, size in enumerate(models)], figures=shown, threshold=0.9)
    assert all(piece.size_bytes >= 0 for piece in bar.pieces)
    assert sum(piece.width for piece in bar.pieces) == pytest.approx(100, abs=0.3)
    assert all(0 <= mark.at <= 100 for mark in bar.marks)
