"""What fits, what warns, and why: the rules that no disk may bend."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cachemgr.pages import _EXPLANATIONS
from cachemgr.space import CacheFigures, Rules, Verdict, check_space, level, recommend, room_left, status

GB = 10**9
RULES = Rules(warning_threshold=0.9, disk_reserve_bytes=2 * GB)
AWAY = ["missing", "unmounted", "unresponsive", "not_measured", "read_only"]
PLAIN = CacheFigures(
    location="primary",
    path="/fast",
    state="ok",
    limit_bytes=100 * GB,
    used_bytes=20 * GB,
    reserved_bytes=0,
    pool_reserved_bytes=0,
    disk_total_bytes=500 * GB,
    disk_used_bytes=100 * GB,
    disk_free_bytes=400 * GB,
)

SIZES = st.integers(min_value=0, max_value=10**13)
RULESETS = st.builds(Rules, warning_threshold=st.floats(0.01, 1), disk_reserve_bytes=SIZES)


@st.composite
def any_figures(draw: st.DrawFn) -> CacheFigures:
    total, reserved = draw(SIZES), draw(SIZES)
    used = draw(st.integers(0, total))
    return CacheFigures(
        location=draw(st.sampled_from(["primary", "secondary", "custom"])),
        path="/x",
        state=draw(st.sampled_from(["ok", "ok", *AWAY])),
        limit_bytes=draw(st.none() | st.integers(10**6, 10**13)),
        used_bytes=draw(SIZES),
        reserved_bytes=reserved,
        pool_reserved_bytes=reserved + draw(SIZES),
        disk_total_bytes=total,
        disk_used_bytes=used,
        disk_free_bytes=draw(st.integers(0, total - used)),
        inodes_free=draw(st.none() | st.sampled_from([0, 63, 64, 10**6])),
    )


@given(any_figures(), SIZES, RULESETS)
def test_it_never_fits_when_the_numbers_say_no(figures: CacheFigures, required: int, rules: Rules) -> None:
    verdict = check_space(figures, required_bytes=required, rules=rules)
    if verdict.sufficient:
        assert figures.is_usable
        assert (
            required == 0
            or figures.pool_reserved_bytes + required + rules.disk_reserve_bytes <= figures.disk_free_bytes
        )
        if required and figures.limit_bytes is not None:
            assert figures.used_bytes + figures.reserved_bytes + required <= figures.limit_bytes
        assert verdict.shortfall_bytes == 0
    else:
        assert verdict.warning and (not figures.is_usable or verdict.shortfall_bytes > 0)
    assert verdict.message.endswith(".") or not figures.is_usable


@given(any_figures(), RULESETS)
def test_what_is_left_used_and_promised_is_never_above_the_limit(figures: CacheFigures, rules: Rules) -> None:
    available, factor = room_left(figures, rules=rules)
    assert 0 <= available <= figures.disk_free_bytes
    if available and figures.limit_bytes is not None:
        assert available + figures.used_bytes + figures.reserved_bytes <= figures.limit_bytes
    assert (factor == "unavailable") == (not figures.is_usable)
    if factor == "unavailable" or (figures.inodes_free or 64) < 64:
        assert available == 0


@given(any_figures(), SIZES, st.integers(1, 10**12), RULESETS)
def test_what_is_booked_leaves_less_for_the_next(figures: CacheFigures, required: int, more: int, rules: Rules) -> None:
    before = check_space(figures, required_bytes=required, rules=rules)
    promised = replace(
        figures,
        reserved_bytes=figures.reserved_bytes + required,
        pool_reserved_bytes=figures.pool_reserved_bytes + required,
    )
    after = room_left(promised, rules=rules)[0]
    assert after == max(0, before.available_bytes - required)
    if before.available_bytes < required + more:
        assert not check_space(promised, required_bytes=more, rules=rules).sufficient


@given(any_figures(), SIZES)
def test_not_knowing_is_no_refusal_but_what_the_limit_never_holds_is(figures: CacheFigures, required: int) -> None:
    verdict = check_space(figures, required_bytes=required, rules=RULES)
    if figures.is_usable:
        assert verdict.is_refusal == (not verdict.sufficient)
    else:
        assert not verdict.sufficient and verdict.limiting_factor == "unavailable"
        full = (
            figures.limit_bytes is not None
            and figures.used_bytes + figures.reserved_bytes + required > figures.limit_bytes
        )
        assert verdict.is_refusal == full


@pytest.mark.parametrize(
    ("changes", "required_gb", "available_gb", "factor"),
    [
        ({}, 80, 80, "limit"),
        ({"reserved_bytes": 30 * GB, "pool_reserved_bytes": 30 * GB}, 50, 50, "limit"),
        ({"disk_free_bytes": 60 * GB}, 58, 58, "disk"),
        ({"disk_free_bytes": 60 * GB, "pool_reserved_bytes": 50 * GB}, 8, 8, "disk"),
        ({"limit_bytes": None}, 398, 398, "disk"),
        ({"disk_free_bytes": GB}, 0, 0, "disk"),
        ({"used_bytes": 120 * GB}, 0, 0, "limit"),
        ({"inodes_free": 63}, 0, 0, "inodes"),
    ],
)
def test_the_tighter_of_limit_and_disk_binds_to_the_byte(
    changes: dict[str, Any], required_gb: int, available_gb: int, factor: str
) -> None:
    figures = replace(PLAIN, **changes)
    exact = check_space(figures, required_bytes=required_gb * GB, rules=RULES)
    assert exact.sufficient and (exact.available_bytes, exact.limiting_factor) == (available_gb * GB, factor)
    one_more = check_space(figures, required_bytes=required_gb * GB + 1, rules=RULES)
    assert not one_more.sufficient and one_more.shortfall_bytes == 1 and "do not fit" in one_more.message


# Levels, warnings and states


@pytest.mark.parametrize(
    ("used", "color", "state"),
    [
        (749_999, "green", "ok"), (750_000, "yellow", "ok"), (900_000, "yellow", "ok"), (900_001, "red", "warning"),
        (969_999, "red", "warning"), (970_000, "red", "critical"), (1_000_000, "red", "critical"),
        (1_000_001, "red", "over_limit"),
    ],
)  # fmt: skip
def test_levels_and_states_change_exactly_at_their_thresholds(used: int, color: str, state: str) -> None:
    for limit, disk_used, as_custom in ((10**6, 0, False), (None, used, True)):
        figures = replace(PLAIN, limit_bytes=limit, used_bytes=used, disk_used_bytes=disk_used, disk_total_bytes=10**6)
        assert (figures.limit_bytes is None) == as_custom
        assert level(figures.usage, rules=RULES) == color
        assert status(figures, rules=RULES) == state


@given(st.integers(1, 10**11), st.integers(0, 10))
def test_exactly_at_the_threshold_nothing_warns_and_one_byte_more_does(tenth: int, used_tenths: int) -> None:
    assume(used_tenths <= 9)
    figures = replace(
        PLAIN, limit_bytes=10 * tenth, used_bytes=used_tenths * tenth, disk_total_bytes=10**14, disk_free_bytes=10**14
    )
    fill = 9 * tenth - figures.used_bytes
    assert not check_space(figures, required_bytes=fill, rules=RULES).warning
    assert check_space(figures, required_bytes=fill + 1, rules=RULES).warning


@pytest.mark.parametrize("state", AWAY)
def test_a_drive_that_is_away_is_its_own_news_however_full(state: str) -> None:
    figures = replace(PLAIN, state=state, used_bytes=200 * GB, state_message="The drive sleeps.")
    assert status(figures, rules=RULES) == state
    verdict = check_space(figures, required_bytes=1, rules=RULES)
    assert verdict.message == "The primary cache (/fast) cannot be used now: The drive sleeps."


@given(any_figures(), RULESETS)
def test_the_settings_page_has_words_for_every_state(figures: CacheFigures, rules: Rules) -> None:
    assert status(figures, rules=rules) in _EXPLANATIONS


def test_a_disk_of_no_known_size_is_no_division_by_zero() -> None:
    figures = replace(
        PLAIN, limit_bytes=None, disk_total_bytes=0, disk_used_bytes=0, disk_free_bytes=0, state="missing"
    )
    assert figures.usage == 0 == check_space(figures, required_bytes=GB, rules=RULES).projected_usage


# Recommending


def verdict(location: str, *, fits: bool = True, warns: bool = False) -> Verdict:
    free = {(True, False): 80, (True, True): 5, (False, True): 1}[fits, warns or not fits]
    figures = replace(PLAIN, location=location, used_bytes=(100 - free) * GB)
    return check_space(figures, required_bytes=2 * GB, rules=RULES)


@pytest.mark.parametrize(
    ("primary", "secondary", "best"),
    [
        ({}, {}, "primary"),
        ({"warns": True}, {}, "secondary"),
        ({"fits": False}, {}, "secondary"),
        ({"warns": True}, {"warns": True}, "primary"),
        ({"fits": False}, {"warns": True}, "secondary"),
        ({"warns": True}, {"fits": False}, "primary"),
        ({"fits": False}, {"fits": False}, None),
    ],
)
def test_the_first_calm_place_is_recommended_else_the_first_that_fits(
    primary: dict[str, bool], secondary: dict[str, bool], best: str | None
) -> None:
    found = recommend([verdict("primary", **primary), verdict("secondary", **secondary)])
    assert (found.figures.location if found else None) == best


@given(st.lists(any_figures(), max_size=3), SIZES)
def test_what_is_recommended_always_fits(places: list[CacheFigures], required: int) -> None:
    verdicts = [check_space(each, required_bytes=required, rules=RULES) for each in places]
    best = recommend(verdicts)
    assert (best is not None) == any(each.sufficient for each in verdicts)
    assert best is None or best.sufficient
