"""The columns of a small picture."""

from web.columns import HEIGHT, WIDTH, Column, Pair, draw


def lower(column: Column) -> tuple[float, float]:
    return column.lower_top, column.lower_height


def upper(column: Column) -> tuple[float, float]:
    return column.upper_top, column.upper_height


def test_the_highest_column_fills_the_picture_and_its_second_part_stands_on_the_first() -> None:
    full, half, none = draw([Pair(6, 2), Pair(4, 0), Pair(0, 0)])
    assert lower(full) == (HEIGHT / 4, HEIGHT * 3 / 4) and upper(full) == (0, HEIGHT / 4)
    assert lower(half) == (HEIGHT / 2, HEIGHT / 2) and half.upper_height == 0
    assert none.lower_height == none.upper_height == 0
    assert [column.left for column in draw([Pair(1, 0)] * 4)] == [7.5, 82.5, 157.5, 232.5]
    assert none.left + none.width < WIDTH


def test_one_among_a_thousand_can_be_seen_and_nothing_leaves_the_picture() -> None:
    (column,) = draw([Pair(1000, 1)])
    assert upper(column) == (0, 2) and lower(column) == (2, HEIGHT - 2)
    small, _ = draw([Pair(1, 0), Pair(10**6, 0)])
    assert small.lower_height == 2


def test_each_keeps_its_words() -> None:
    assert [column.words for column in draw([Pair(1, 0, "14:00"), Pair(2, 2, "14:05")])] == ["14:00", "14:05"]
    assert draw([]) == ()
