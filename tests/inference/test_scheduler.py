"""The numbered decision tree, branch by branch."""

from hypothesis import given
from hypothesis import strategies as st

from inference.scheduler import Admission, Resident, memory_needed, plan_admission

GB = 10**9


def resident(name: str, *, gb: int = 10, in_flight: int = 0, pinned: bool = False, idle_since: float = 0) -> Resident:
    return Resident(name, gb * GB, in_flight, pinned, idle_since)


def plan(needed_gb: int, available_gb: int, *residents: Resident) -> Admission:
    return plan_admission(needed_bytes=needed_gb * GB, available_bytes=available_gb * GB, residents=residents)


def test_1_a_model_that_fits_beside_the_others_evicts_nobody() -> None:
    assert plan(5, 5, resident("a")) == Admission("admit")


def test_2_the_least_recently_used_go_first_and_no_more_than_needed() -> None:
    residents = [resident("new", idle_since=9), resident("old", idle_since=1), resident("middle", idle_since=5)]
    assert plan(22, 5, *residents) == Admission("admit", evict=("old", "middle"))


def test_2_pinned_models_stay() -> None:
    assert plan(12, 5, resident("pinned", pinned=True, idle_since=0), resident("a", idle_since=5)).evict == ("a",)


def test_3_a_busy_model_is_waited_for_and_never_evicted() -> None:
    assert plan(12, 5, resident("busy", in_flight=1)) == Admission("wait")


def test_4_what_never_fits_is_refused() -> None:
    assert plan(50, 5, resident("a"), resident("busy", in_flight=2)) == Admission("refuse")
    assert plan(12, 5, resident("pinned", pinned=True)) == Admission("refuse")


residents_strategy = st.lists(
    st.builds(
        Resident,
        st.uuids().map(str),
        st.integers(0, 100 * GB),
        st.integers(0, 3),
        st.booleans(),
        st.floats(0, 1000),
    ),
    max_size=8,
)


@given(st.integers(0, 200 * GB), st.integers(0, 100 * GB), residents_strategy)
def test_nobody_busy_or_pinned_is_evicted_and_what_is_admitted_fits(needed, available, residents) -> None:
    decided = plan_admission(needed_bytes=needed, available_bytes=available, residents=residents)
    leavers = [each for each in residents if each.model_name in decided.evict]
    assert all(each.in_flight == 0 and not each.is_pinned for each in leavers)
    if decided.verdict == "admit":
        assert needed <= available + sum(each.memory_bytes for each in leavers)
    else:
        assert decided.evict == ()


def test_the_memory_of_an_engine_is_more_than_its_weights() -> None:
    assert memory_needed(14 * GB) > 14 * GB
    assert memory_needed(0) > 0
