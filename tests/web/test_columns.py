"""The columns of the last hour's requests."""

from web.columns import HEIGHT, WIDTH, Count, draw


def test_the_highest_column_fills_the_picture_and_failed_ones_stand_on_top() -> None:
    full, half, none = draw([Count("14:00", 6, 2), Count("14:05", 4, 0), Count("14:10", 0, 0)])
    assert full.good == (HEIGHT / 4, HEIGHT * 3 / 4) and full.failed == (0, HEIGHT / 4)
    assert half.good == (HEIGHT / 2, HEIGHT / 2) and half.failed[1] == 0
    assert none.good[1] == none.failed[1] == 0
    assert full.x == 0 and none.x + none.width < WIDTH


def test_one_failure_among_a_thousand_can_be_seen_and_nothing_leaves_the_picture() -> None:
    (column,) = draw([Count("14:00", 1000, 1)])
    assert column.failed == (0, 2) and column.good == (2, HEIGHT - 2)


def test_each_says_what_it_is() -> None:
    assert [column.words for column in draw([Count("14:00", 1, 0), Count("14:05", 1000, 2), Count("14:10", 0, 0)])] == [
        "14:00: 1 request",
        "14:05: 1,002 requests, 2 failed",
        "14:10: 0 requests",
    ]
    assert draw([]) == ()
