"""Where a model should go, why, and what helps where it does not fit."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachemgr.advice import Recommendation, recommend, ways_out
from cachemgr.space import CacheFigures, Candidate, Pool, Rules, Trashed, Verdict, check_space
from tests.cachemgr.test_space import SIZES, any_figures

GB, MB = 10**9, 10**6
RULES = Rules(warning_threshold=0.9, disk_reserve_bytes=2 * GB)
NO_SPEEDS = {"primary": None, "secondary": None}


def verdict(location: str, *, free_gb: int = 80, needed_gb: int = 2, **changes: Any) -> Verdict:
    """About a cache of 100 GB on a large disk of its own."""
    figures = CacheFigures(
        location=location,
        path=f"/{location}",
        state="ok",
        limit_bytes=100 * GB,
        used_bytes=(100 - free_gb) * GB,
        reserved_bytes=0,
        pools=(Pool(400 * GB, 0),),
        disk_total_bytes=500 * GB,
        disk_used_bytes=100 * GB,
    )
    return check_space(replace(figures, **changes), required_bytes=needed_gb * GB, rules=RULES)


def of_two(
    primary: Verdict, secondary: Verdict, *, speeds: tuple[int | None, int | None] = (None, None)
) -> Recommendation:
    return recommend([primary, secondary], speeds=dict(zip(("primary", "secondary"), speeds, strict=True)))


CALM, WARNS, FULL = 80, 5, 1


@pytest.mark.parametrize(
    ("primary", "secondary", "best"),
    [
        (CALM, CALM, "primary"),
        (WARNS, CALM, "secondary"),
        (FULL, CALM, "secondary"),
        (WARNS, WARNS, "primary"),
        (FULL, WARNS, "secondary"),
        (WARNS, FULL, "primary"),
        (CALM, FULL, "primary"),
        (FULL, FULL, None),
    ],
)
@pytest.mark.parametrize("speeds", [(None, None), (500, 500), (500, 999), (500, None), (None, 999)])
def test_what_fits_calmly_is_first_then_what_fits_and_primary_before_secondary(
    primary: int, secondary: int, best: str | None, speeds: tuple[int | None, int | None]
) -> None:
    found = of_two(verdict("primary", free_gb=primary), verdict("secondary", free_gb=secondary), speeds=speeds)
    assert found.location == best
    assert [each.figures.location for each in found.verdicts] == ["primary", "secondary"]
    assert best is None or found.ranking[0].figures.location == best


@pytest.mark.parametrize(
    ("primary", "secondary", "best"),
    [(CALM, CALM, "secondary"), (WARNS, WARNS, "secondary"), (CALM, WARNS, "primary"), (CALM, FULL, "primary")],
)
def test_a_drive_that_is_twice_as_fast_is_first_only_where_it_fits_alike(
    primary: int, secondary: int, best: str
) -> None:
    found = of_two(verdict("primary", free_gb=primary), verdict("secondary", free_gb=secondary), speeds=(500, 1000))
    assert found.location == best


@given(st.lists(any_figures(), max_size=3), SIZES, st.dictionaries(st.just("primary") | st.just("secondary"), SIZES))
def test_what_is_recommended_always_fits(places: list[CacheFigures], required: int, speeds: dict[str, int]) -> None:
    verdicts = [check_space(each, required_bytes=required, rules=RULES) for each in places]
    found = recommend(verdicts, speeds=speeds)
    assert (found.verdict is not None) == any(each.sufficient for each in verdicts)
    assert found.verdict is None or found.verdict.sufficient
    assert sorted(map(id, found.ranking)) == sorted(map(id, verdicts)) and found.reason


# Why


def test_the_reason_names_the_free_share_and_how_long_each_drive_would_take() -> None:
    found = of_two(verdict("primary", needed_gb=14), verdict("secondary"), speeds=(500 * MB, 140 * MB))
    assert found.reason == (
        "14.0 GB fit the primary cache, and 66% of it stay free. The primary cache loads them in about 28 s (500 MB/s). "
        "The secondary cache loads them in about 14 s (140 MB/s)."
    )


@pytest.mark.parametrize(
    ("speed", "words"), [(2 * GB, "in about 1 s (2.0 GB/s)"), (2 * GB + 1, "in under a second (2.0 GB/s)")]
)
def test_what_loads_at_once_does_not_take_about_0_seconds(speed: int, words: str) -> None:
    """2 GB are to be loaded."""
    reason = of_two(verdict("primary"), verdict("secondary"), speeds=(speed, None)).reason
    assert f"The primary cache loads them {words}." in reason


def test_a_speed_that_nobody_measured_is_not_made_up() -> None:
    reason = of_two(verdict("primary"), verdict("secondary")).reason
    assert "How fast the primary cache reads is not measured yet." in reason
    assert "How fast the secondary cache reads is not measured yet." in reason


def test_a_faster_drive_that_is_not_first_is_explained() -> None:
    reason = of_two(verdict("primary"), verdict("secondary"), speeds=(500 * MB, 900 * MB)).reason
    assert reason.endswith("The secondary cache loads them in about 2 s (900 MB/s), which is not twice as fast.")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"free_gb": WARNS}, "2.0 GB fit, but the primary cache (/primary) would then be at 97% of 100 GB, above 90%."),
        ({"free_gb": FULL}, "2.0 GB do not fit: the primary cache (/primary) has room for 1.0 GB"),
        ({"state": "unmounted", "state_message": "Plug it in."}, "(/primary) cannot be used now: Plug it in."),
    ],
)
def test_the_reason_says_what_is_wrong_with_the_other(changes: dict[str, Any], words: str) -> None:
    found = of_two(verdict("primary", **changes), verdict("secondary"))
    assert found.location == "secondary" and words in found.reason


def test_a_warning_is_the_reason_where_nothing_fits_calmly() -> None:
    found = of_two(verdict("primary", free_gb=FULL), verdict("secondary", free_gb=WARNS))
    assert found.reason.startswith("2.0 GB fit, but the secondary cache (/secondary) would then be at 97%")


SHELF = (Candidate("old", GB, None, "primary"), Candidate("older", 2 * GB, None, "primary"))


def test_where_nothing_fits_it_says_who_would_make_room() -> None:
    full = replace(verdict("primary", free_gb=FULL), would_make_room=SHELF)
    found = of_two(full, verdict("secondary", free_gb=FULL))
    assert found.verdict is None and found.would_make_room == SHELF
    assert found.reason.startswith("It fits nowhere now. 2.0 GB do not fit: the primary cache")
    assert found.reason.endswith("It would if old and older left the primary cache.")
    assert of_two(full, verdict("secondary")).would_make_room == ()


def test_where_nothing_fits_it_says_whose_trash_would_give_way() -> None:
    full = verdict("primary", free_gb=FULL)
    enough, too_little = (replace(full, in_trash=Trashed((3,), freed_bytes=size)) for size in (GB, GB - 1))
    found = of_two(enough, verdict("secondary", free_gb=FULL))
    assert found.verdict is None and found.reason.endswith(
        "It would if the trash of the primary cache were emptied, as registering it there does: that frees 1.0 GB."
    )
    no_inodes = verdict("primary", pools=(Pool(400 * GB, 0, inodes_free=3),))
    for other in (too_little, replace(no_inodes, in_trash=enough.in_trash), verdict("primary", state="missing")):
        assert "trash" not in of_two(other, verdict("secondary", free_gb=FULL)).reason


def test_of_no_cache_nothing_is_recommended() -> None:
    found = recommend([], speeds=NO_SPEEDS)
    assert (found.verdict, found.ranking, found.would_make_room) == (None, (), ())


# Ways out


def ways(refused: Verdict, *, elsewhere: Verdict | None = None, moved: Verdict | None = None) -> list[dict[str, Any]]:
    found = ways_out(refused, elsewhere=[elsewhere] if elsewhere else [], moved=[moved] if moved else [], rules=RULES)
    return [way.as_json() for way in found]


REFUSED = verdict("primary", free_gb=FULL)
CROWDED = replace(REFUSED, would_make_room=SHELF)


def test_a_refusal_offers_the_other_cache_a_move_a_removal_and_a_higher_limit() -> None:
    assert ways(CROWDED, elsewhere=verdict("secondary"), moved=verdict("secondary")) == [
        {"action": "choose_cache", "cache_location": "secondary", "sentence": "They fit the secondary cache."},
        {
            "action": "move",
            "cache_location": "secondary",
            "models": ["old", "older"],
            "frees_bytes": 3 * GB,
            "sentence": "Move old and older to the secondary cache: that frees 3.0 GB.",
        },
        {
            "action": "raise_limit",
            "setting": "PRIMARY_CACHE_LIMIT_GB",
            "limit_gb": 101.001,
            "sentence": "Raise PRIMARY_CACHE_LIMIT_GB in .env to 101.001 or more, and start again: the disk has room.",
        },
        {
            "action": "remove",
            "models": ["old", "older"],
            "frees_bytes": 3 * GB,
            "sentence": "Remove old and older: that frees 3.0 GB.",
        },
    ]


@pytest.mark.parametrize(
    ("refused", "size_bytes", "sentence"),
    [
        (REFUSED, GB, "Empty the trash there: that frees 1.0 GB."),
        (REFUSED, 5 * 10**8, "Empty the trash there: that frees 500 MB of the 1.0 GB that are lacking."),
        (
            verdict("primary", pools=(Pool(400 * GB, 0, inodes_free=3),)),
            5 * 10**8,
            "Empty the trash there: that frees 500 MB.",
        ),
    ],
)
def test_a_refusal_offers_the_trash_with_what_it_holds(refused: Verdict, size_bytes: int, sentence: str) -> None:
    first, *others = ways(replace(refused, in_trash=Trashed((3, 5), size_bytes)))
    assert first == {"action": "empty_trash", "entries": [3, 5], "frees_bytes": size_bytes, "sentence": sentence}
    assert others == ways(refused)


@pytest.mark.parametrize(
    ("refused", "actions"),
    [
        (REFUSED, ["raise_limit", "free_space"]),
        (CROWDED, ["raise_limit", "remove"]),
        (verdict("primary", free_gb=FULL, pools=(Pool(3 * GB, 0),)), ["free_space"]),
        (verdict("primary", pools=(Pool(3 * GB, 0),)), ["free_space"]),
        (verdict("custom", limit_bytes=None, pools=(Pool(3 * GB, 0),)), ["free_space"]),
        (verdict("primary", pools=(Pool(400 * GB, 0, inodes_free=3),)), ["free_space"]),
    ],
)
def test_only_what_would_help_is_offered(refused: Verdict, actions: list[str]) -> None:
    full = verdict("secondary", free_gb=FULL)
    assert [way["action"] for way in ways(refused, elsewhere=full, moved=full)] == actions
