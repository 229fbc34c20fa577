"""The font that pages load has every icon that they show."""

from fontTools.ttLib import TTFont

from tests.web.icons import OUR_FONT, WHOLE_FONT, icons_of, names_used


def test_every_icon_in_use_is_in_the_font_that_pages_load() -> None:
    used = names_used(set(icons_of(TTFont(WHOLE_FONT))))
    assert {"warning", "check_circle", "hard_drive"} <= used
    assert used - set(icons_of(TTFont(OUR_FONT))) == set(), "run script/icons"


def test_the_font_stays_small() -> None:
    assert OUR_FONT.stat().st_size < 60_000
