"""What fits, what warns, and why: the rules that no disk may bend."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cachemgr.space import (
    CacheFigures,
    Candidate,
    Pool,
    Rules,
    check_space,
    choose_to_free,
    inodes_needed,
    level,
    limit_that_fits,
    room_left,
    status,
)
from web.cards import _WORDS

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
    pools=(Pool(400 * GB, 0),),
    disk_total_bytes=500 * GB,
    disk_used_bytes=100 * GB,
)

SIZES = st.integers(min_value=0, max_value=10**13)
RULESETS = st.builds(Rules, warning_threshold=st.floats(0.01, 1), disk_reserve_bytes=SIZES)


@st.composite
def any_figures(draw: st.DrawFn) -> CacheFigures:
    total, reserved = draw(SIZES), draw(SIZES)
    used = draw(st.integers(0, total))
    inodes = draw(st.none() | st.integers(0, 4 * inodes_needed(64)))
    return CacheFigures(
        location=draw(st.sampled_from(["primary", "secondary", "custom"])),
        path="/x",
        state=draw(st.sampled_from(["ok", "ok", *AWAY])),
        limit_bytes=draw(st.none() | st.integers(10**6, 10**13)),
        used_bytes=draw(SIZES),
        reserved_bytes=reserved,
        pools=(
            Pool(
                draw(st.integers(0, total - used)),
                reserved + draw(SIZES),
                inodes_free=inodes,
                inodes_reserved=draw(st.integers(0, 2 * inodes_needed(64))),
            ),
            *draw(st.lists(st.builds(Pool, SIZES, SIZES.map(lambda size: size + reserved)), max_size=1)),
        ),
        disk_total_bytes=total,
        disk_used_bytes=used,
    )


@given(any_figures(), SIZES, RULESETS)
def test_it_never_fits_when_the_numbers_say_no(figures: CacheFigures, required: int, rules: Rules) -> None:
    verdict = check_space(figures, required_bytes=required, rules=rules)
    if verdict.sufficient:
        assert figures.is_usable
        for pool in figures.pools:
            assert required == 0 or pool.reserved_bytes + required + rules.disk_reserve_bytes <= pool.free_bytes
        own = figures.pools[0]
        assert required == 0 or own.inodes_free is None or own.inodes_reserved + inodes_needed(64) <= own.inodes_free
        if required and figures.limit_bytes is not None:
            assert figures.used_bytes + figures.reserved_bytes + required <= figures.limit_bytes
        assert verdict.shortfall_bytes == 0
    else:
        assert verdict.warning and (not figures.is_usable or verdict.shortfall_bytes > 0)
    assert verdict.message.endswith(".") or not figures.is_usable


@given(any_figures(), RULESETS)
def test_what_is_left_used_and_promised_is_never_above_the_limit(figures: CacheFigures, rules: Rules) -> None:
    available, factor = room_left(figures, rules=rules)
    assert 0 <= available <= min(pool.free_bytes for pool in figures.pools)
    if available and figures.limit_bytes is not None:
        assert available + figures.used_bytes + figures.reserved_bytes <= figures.limit_bytes
    assert (factor == "unavailable") == (not figures.is_usable)
    assert available == 0 or factor in {"limit", "disk"}


@given(any_figures(), SIZES, st.integers(1, 10**12), RULESETS)
def test_what_is_booked_leaves_less_for_the_next(figures: CacheFigures, required: int, more: int, rules: Rules) -> None:
    before = check_space(figures, required_bytes=required, rules=rules)
    promised = replace(
        figures,
        reserved_bytes=figures.reserved_bytes + required,
        pools=tuple(replace(pool, reserved_bytes=pool.reserved_bytes + required) for pool in figures.pools),
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


def pools(*pairs: tuple[int, int]) -> dict[str, Any]:
    return {"pools": tuple(Pool(free * GB, reserved * GB) for free, reserved in pairs)}


def inodes(free: int, *, reserved: int = 0) -> dict[str, Any]:
    return {"pools": (Pool(400 * GB, 0, inodes_free=free, inodes_reserved=reserved),)}


@pytest.mark.parametrize(
    ("changes", "required_gb", "available_gb", "factor"),
    [
        ({}, 80, 80, "limit"),
        ({"reserved_bytes": 30 * GB} | pools((400, 30)), 50, 50, "limit"),
        (pools((60, 0)), 58, 58, "disk"),
        (pools((60, 50)), 8, 8, "disk"),
        (pools((60, 0), (30, 0)), 28, 28, "disk"),
        (pools((60, 0), (60, 50)), 8, 8, "disk"),
        ({"limit_bytes": None}, 398, 398, "disk"),
        ({"limit_bytes": None} | pools((400, 0), (12, 0)), 10, 10, "disk"),
        (pools((1, 0)), 0, 0, "disk"),
        ({"used_bytes": 120 * GB}, 0, 0, "limit"),
        (inodes(inodes_needed(64) - 1), 0, 0, "inodes"),
        (inodes(inodes_needed(64)), 80, 80, "limit"),
        (inodes(2 * inodes_needed(64) - 1, reserved=inodes_needed(64)), 0, 0, "inodes"),
        (inodes(2 * inodes_needed(64), reserved=inodes_needed(64)), 80, 80, "limit"),
        ({"pools": (Pool(400 * GB, 0), Pool(400 * GB, 0, inodes_free=0))}, 80, 80, "limit"),
    ],
)
def test_the_tighter_of_limit_and_disk_binds_to_the_byte(
    changes: dict[str, Any], required_gb: int, available_gb: int, factor: str
) -> None:
    figures = replace(PLAIN, **changes)
    exact = check_space(figures, required_bytes=required_gb * GB, rules=RULES)
    assert exact.sufficient and (exact.available_bytes, exact.limiting_factor) == (available_gb * GB, factor)
    one_more = check_space(figures, required_bytes=required_gb * GB + 1, rules=RULES)
    assert not one_more.sufficient and "do not fit" in one_more.message


def test_of_an_image_with_holes_the_drive_below_it_is_named() -> None:
    verdict = check_space(
        replace(PLAIN, pools=(Pool(400 * GB, 0), Pool(10 * GB, 3 * GB, "the drive below"))),
        required_bytes=9 * GB,
        rules=RULES,
    )
    assert verdict.shortfall_bytes == 4 * GB and verdict.figures.disk_free_bytes == 400 * GB
    assert verdict.message.endswith("4.0 GB too little (the free space of the drive below is what binds).")


def test_what_is_missing_is_more_than_the_model_where_the_limit_is_passed_already() -> None:
    figures = replace(PLAIN, used_bytes=120 * GB)
    verdict = check_space(figures, required_bytes=5 * GB, rules=RULES)
    assert (verdict.available_bytes, verdict.shortfall_bytes) == (0, 25 * GB)


@pytest.mark.parametrize(("files", "fits"), [(10, True), (28, True), (29, False), (3000, False)])
def test_each_file_takes_its_inodes(files: int, fits: bool) -> None:
    """A blob, a link and a lock each, and sixteen folders."""
    verdict = check_space(replace(PLAIN, **inodes(100)), required_bytes=GB, required_files=files, rules=RULES)
    assert verdict.sufficient == fits and (fits or verdict.limiting_factor == "inodes")
    assert fits or f"(about {16 + 3 * files} inodes are needed, and its filesystem has 100 left)." in verdict.message


@given(st.lists(st.integers(0, 300), max_size=12), st.integers(0, 1500))
def test_promises_one_after_the_other_never_take_more_inodes_than_there_are(wishes: list[int], free: int) -> None:
    promised = 0
    for files in wishes:
        figures = replace(PLAIN, **inodes(free, reserved=promised))
        verdict = check_space(figures, required_bytes=1, required_files=files, rules=RULES)
        assert verdict.sufficient == (promised + inodes_needed(files) <= free)
        promised += inodes_needed(files) if verdict.sufficient else 0
    assert promised <= free


def test_a_refusal_for_inodes_says_how_many_are_free_and_how_many_are_promised() -> None:
    figures = replace(PLAIN, **inodes(300, reserved=inodes_needed(64)))
    verdict = check_space(figures, required_bytes=GB, required_files=40, rules=RULES)
    assert verdict.message == (
        "1.0 GB do not fit: the primary cache (/fast) has no room for so many files "
        "(about 136 inodes are needed, and its filesystem has 300 left, with 208 promised already)."
    )


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_the_inodes_of_many_promises_are_the_sum_of_each(files: list[int]) -> None:
    assert inodes_needed(sum(files), repos=len(files)) == sum(map(inodes_needed, files))


@given(any_figures(), SIZES, RULESETS)
def test_the_limit_that_is_named_lets_it_in(figures: CacheFigures, required: int, rules: Rules) -> None:
    verdict = check_space(figures, required_bytes=required, rules=rules)
    limit = limit_that_fits(verdict, rules=rules)
    if limit is not None:
        assert not verdict.sufficient and limit > figures.limit_bytes
        assert check_space(replace(figures, limit_bytes=limit), required_bytes=required, rules=rules).sufficient
        assert not check_space(replace(figures, limit_bytes=limit - 1), required_bytes=required, rules=rules).sufficient
    elif verdict.limiting_factor == "limit" and not verdict.sufficient:
        assert not check_space(replace(figures, limit_bytes=10**15), required_bytes=required, rules=rules).sufficient


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
        PLAIN,
        limit_bytes=10 * tenth,
        used_bytes=used_tenths * tenth,
        disk_total_bytes=10**14,
        pools=(Pool(10**14, 0),),
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


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (90.04, "at 90% of 100 GB, just above 90%."),
        (90.4, "at 90.4% of 100 GB, above 90%."),
        (95, "at 95% of 100 GB, above 90%."),
        (100, "at 100% of 100 GB, above 90%."),
    ],
)
def test_a_warning_never_reads_as_if_nothing_were_above_anything(after: float, words: str) -> None:
    required = round(after * GB) - PLAIN.used_bytes
    verdict = check_space(PLAIN, required_bytes=required, rules=RULES)
    assert verdict.sufficient and verdict.warning and verdict.message.endswith(words)


@given(any_figures(), RULESETS)
def test_the_settings_page_has_words_for_every_state(figures: CacheFigures, rules: Rules) -> None:
    assert status(figures, rules=rules) in _WORDS


def test_a_disk_of_no_known_size_is_no_division_by_zero() -> None:
    figures = replace(
        PLAIN, limit_bytes=None, disk_total_bytes=0, disk_used_bytes=0, pools=(Pool(0, 0),), state="missing"
    )
    assert figures.usage == 0 == check_space(figures, required_bytes=GB, rules=RULES).projected_usage


# Making room


DAY = datetime(2026, 1, 1, tzinfo=UTC)


def candidate(name: str, size_gb: int, *, used_days_ago: int | None = None) -> Candidate:
    used_at = None if used_days_ago is None else DAY - timedelta(days=used_days_ago)
    return Candidate(name, size_gb * GB, used_at, "primary")


SHELF = [
    candidate("today", 10, used_days_ago=0),
    candidate("last week", 5, used_days_ago=7),
    candidate("last year", 3, used_days_ago=365),
    candidate("never", 1),
]


@pytest.mark.parametrize(
    ("shortfall_gb", "names"),
    [
        (1, ["never"]),
        (2, ["last year"]),
        (4, ["never", "last year"]),
        (5, ["last week"]),
        (6, ["never", "last week"]),
        (9, ["never", "last year", "last week"]),
        (12, ["last year", "today"]),
        (19, ["never", "last year", "last week", "today"]),
        (20, []),
    ],
)
def test_the_least_recently_used_leave_and_none_in_vain(shortfall_gb: int, names: list[str]) -> None:
    chosen = choose_to_free(SHELF, shortfall_bytes=shortfall_gb * GB)
    assert [each.name for each in chosen] == names


CANDIDATES = st.builds(
    Candidate,
    name=st.text(min_size=1, max_size=5),
    size_bytes=st.integers(0, 100),
    last_used_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    location=st.just("primary"),
)


@given(st.lists(CANDIDATES, max_size=8), st.integers(1, 400))
def test_who_leaves_is_enough_and_without_any_one_it_is_not(candidates: list[Candidate], shortfall: int) -> None:
    chosen = choose_to_free(candidates, shortfall_bytes=shortfall)
    freed = sum(each.size_bytes for each in chosen)
    if sum(each.size_bytes for each in candidates) < shortfall:
        assert chosen == ()
    else:
        assert freed >= shortfall and all(freed - each.size_bytes < shortfall for each in chosen)
        assert all(chosen.count(each) <= candidates.count(each) for each in chosen)


@given(any_figures(), SIZES, RULESETS)
def test_when_the_missing_bytes_have_left_it_fits(figures: CacheFigures, required: int, rules: Rules) -> None:
    countless = tuple(replace(pool, inodes_free=None) for pool in figures.pools)
    figures = replace(figures, state="ok", pools=countless)  # so that the limit or a disk is what binds
    required += room_left(figures, rules=rules)[0] + 1
    verdict = check_space(figures, required_bytes=required, rules=rules)
    assert verdict.limiting_factor in {"limit", "disk"} and not verdict.sufficient
    freed = verdict.shortfall_bytes
    after = replace(
        figures,
        used_bytes=figures.used_bytes - freed,
        pools=tuple(replace(pool, free_bytes=pool.free_bytes + freed) for pool in figures.pools),
    )
    assert check_space(after, required_bytes=required, rules=rules).sufficient


def test_what_lies_on_the_disk_already_needs_no_room_on_it_but_in_the_limit() -> None:
    full = replace(PLAIN, used_bytes=10 * GB, pools=(Pool(0, 0),))
    assert not check_space(full, required_bytes=GB, rules=RULES).sufficient
    assert check_space(full, required_bytes=GB, lying_bytes=GB, rules=RULES).sufficient
    beyond = check_space(full, required_bytes=91 * GB, lying_bytes=91 * GB, rules=RULES)
    assert (beyond.sufficient, beyond.limiting_factor, beyond.shortfall_bytes) == (False, "limit", GB)
    custom = check_space(replace(full, limit_bytes=None), required_bytes=91 * GB, lying_bytes=91 * GB, rules=RULES)
    assert custom.sufficient
