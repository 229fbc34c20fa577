"""What pages draw and offer, as values: columns a day, the bar with one more model, the buttons of a state."""

from datetime import date

import pytest

from cachemgr.space import CacheFigures, Pool, Rules, check_space
from web.day_plot import draw_days
from web.model_acts import choose_buttons
from web.space_after import SpaceAfter, draw_space

RULES = Rules(0.9, 0)


def test_a_picture_says_the_same_in_words():
    plot = draw_days([(1200, 0), (0, 3)], first=date(2026, 1, 1), lower="requests", upper="failed")
    assert plot.summary == "1,200 requests, 3 failed in 2 days." and plot.first == "1 Jan"
    assert plot.columns[1].words == "Fri 2 Jan: 0 requests, 3 failed" and not plot.is_empty
    assert draw_days([(0, 0)], first=date(2026, 1, 1), lower="requests", upper="failed").is_empty


def space(used: int, coming: int, *, promised: int = 0, limit: int = 100, state: str = "ok") -> SpaceAfter:
    pools = (Pool(10**6, promised),)
    figures = CacheFigures("primary", "/p", state, limit, used, promised, pools, 10**6, used)
    return draw_space(check_space(figures, required_bytes=coming, rules=RULES), warning_threshold=0.9)


@pytest.mark.parametrize(
    ("used", "coming", "level", "words"),
    [
        (10, 20, "green", "30% full with it: 70 B stay free."),
        (10, 70, "yellow", "80% full with it: 20 B stay free."),
        (10, 82, "red", "92% full with it: 8 B stay free."),
        (10, 88, "red", "98% full with it, almost full: 2 B stay free."),
        (10, 95, "red", "Does not fit: 5 B too little."),
        (30, 0, "green", "Nothing more has to come: it stays 30% full."),
    ],
)
def test_the_bar_with_one_more_model_has_a_colour_and_words(used, coming, level, words):
    after = space(used, coming)
    assert (after.level, after.words, after.fits) == (level, words, "not fit" not in words)


def test_the_parts_of_the_bar_are_shares_of_the_cache():
    after = space(40, 20, promised=10)
    assert (after.used, after.promised, after.coming, after.full_at) == (40, 10, 20, 100)


def test_where_it_is_too_much_the_bar_shows_where_the_cache_ends():
    after = space(50, 150)
    assert (after.used, after.coming, after.full_at) == (25, 75, 50)


def test_a_drive_that_is_away_says_so():
    assert space(10, 20, state="missing").words == "It cannot be used now."


def names(status: str, **others: bool) -> list[str]:
    usual = {"is_pinned": False, "has_commit": False, "is_damaged": False}
    return [button.name for button in choose_buttons(status, **(usual | others), load_hint="")]


def test_each_state_has_the_buttons_that_help_first():
    assert names("registered") == ["download", "move", "pin", "remove"]
    assert names("ready", has_commit=True, is_pinned=True)[:2] == ["load", "unload"]
    assert {"move", "verify", "repair", "unpin"} <= set(names("ready", has_commit=True, is_pinned=True))
    assert names("failed", has_commit=True, is_damaged=True)[0] == "repair"
    assert names("missing", has_commit=True) == ["download", "repair", "pin", "remove"]
    assert names("by-hand") == ["pin", "remove"]


def test_one_button_is_the_main_one_and_what_changes_files_asks_first():
    buttons = choose_buttons("ready", is_pinned=False, has_commit=True, is_damaged=False, load_hint="about 3 s")
    assert [button.name for button in buttons if button.is_main] == ["load"] and buttons[0].hint == "about 3 s"
    assert {button.name for button in buttons if not button.is_at_once} == {"move", "verify", "repair", "remove"}
