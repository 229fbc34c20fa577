"""The numbered decision tree, branch by branch, and what holds for every decision."""

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.places import Device
from inference.scheduler import (
    PATIENCE_SECONDS,
    Admission,
    Arrival,
    Resident,
    count_reclaimable,
    plan_admission,
)

GB = 10**9
NOW = 1000.0


def cpu(free_gb: float, total_gb: float = 64) -> Device:
    return Device("cpu", round(total_gb * GB), round(free_gb * GB), "main memory")


def gpu(number: int, free_gb: float, total_gb: float = 24) -> Device:
    return Device(f"cuda:{number}", round(total_gb * GB), round(free_gb * GB), "RTX 3090")


def on(device: str = "cpu", gb: float = 10) -> dict[str, int]:
    return {device: round(gb * GB)}


def idle(name: str, held: dict[str, int] | None = None, *, seconds: float = 100, **more) -> Resident:
    return Resident(name, held or on(), idle_since=NOW - seconds, **more)


def busy(name: str, held: dict[str, int] | None = None, **more) -> Resident:
    return idle(name, held, in_flight=1, **more)


def asks(needs: dict[str, int], *, waited: float = 0, name: str = "new", **more) -> Arrival:
    return Arrival(name, needs, waiting_since=NOW - waited, **more)


def decide(
    arrival: Arrival, devices: Sequence[Device], *residents: Resident, ahead: Sequence[Arrival] = ()
) -> Admission:
    seen = count_reclaimable(devices, residents=residents)
    return plan_admission(arrival, devices=seen, residents=residents, now=NOW, ahead=ahead)


class TestRefusal:
    """1."""

    def test_what_would_not_fit_into_an_empty_machine_is_refused_with_the_numbers(self) -> None:
        ways_out = ("With a context of 2048 tokens it needs 8.0 GB (cuda:0).",)
        decided = decide(asks(on("cuda:0", 40), ways_out=ways_out), [cpu(60), gpu(0, 20)], idle("a", on("cuda:0", 3)))
        assert decided.verdict == "refuse"
        assert decided.message == (
            "new needs 40.0 GB on cuda:0 (RTX 3090), and 20.0 GB of 24.0 GB are free there. "
            "Other models could give back 3.0 GB. With a context of 2048 tokens it needs 8.0 GB (cuda:0)."
        )

    def test_a_pinned_model_is_named_as_what_is_in_the_way(self) -> None:
        decided = decide(asks(on(gb=12)), [cpu(5)], idle("old", is_pinned=True))
        assert decided.verdict == "refuse"
        assert "old is pinned and holds 10.0 GB: unpin it." in decided.message

    def test_it_is_refused_at_once_whoever_waits_already(self) -> None:
        assert decide(asks(on(gb=90)), [cpu(5)], ahead=[asks(on(), waited=99)]).verdict == "refuse"

    def test_a_pinned_model_that_leaves_is_waited_for(self) -> None:
        assert decide(asks(on(gb=12)), [cpu(5)], idle("old", is_pinned=True, state="leaving")).verdict == "wait"


class TestQueue:
    """2."""

    def test_a_small_model_goes_in_beside_one_that_waits_for_room(self) -> None:
        assert decide(asks(on(gb=3)), [cpu(5)], busy("a"), ahead=[asks(on(gb=12), waited=5)]) == Admission("admit")

    def test_the_first_is_not_overtaken_for_ever(self) -> None:
        ahead = [asks(on(gb=12), waited=PATIENCE_SECONDS)]
        assert decide(asks(on(gb=3)), [cpu(5)], busy("a"), ahead=ahead).verdict == "wait"

    def test_nobody_leaves_for_one_that_is_not_the_first(self) -> None:
        decided = decide(asks(on(gb=12), waited=99), [cpu(5)], idle("a"), ahead=[asks(on(gb=12), waited=1)])
        assert (decided.verdict, decided.evict, decided.let_go) == ("wait", (), ())

    def test_one_that_waits_for_another_device_is_not_in_the_way(self) -> None:
        devices = [cpu(5), gpu(0, 1), gpu(1, 20)]
        host = on("cpu", 1)
        ahead = [asks(on("cuda:0", 9) | host, waited=99)]
        residents = [idle("a", on("cuda:1", 3) | host), busy("b", on("cuda:0") | host)]
        decided = decide(asks(on("cuda:1", 22) | host), devices, *residents, ahead=ahead)
        assert decided == Admission("admit", evict=("a",))

    def test_room_that_was_made_for_the_first_is_not_taken_by_the_second(self) -> None:
        assert decide(asks(on(gb=3)), [cpu(12)], ahead=[asks(on(gb=12), waited=99)]).verdict == "wait"
        assert decide(asks(on(gb=3)), [cpu(12)], ahead=[asks(on(gb=12), has_made_room=True)]).verdict == "wait"
        assert (
            decide(asks(on(gb=3)), [cpu(5)], busy("a"), ahead=[asks(on(gb=12), has_made_room=True)]).verdict == "wait"
        )

    def test_room_that_was_made_on_one_device_keeps_nobody_from_another(self) -> None:
        ahead = [asks(on("cuda:0", 18) | on("cpu", 1), has_made_room=True)]
        devices = [cpu(60), gpu(0, 17), gpu(1, 20)]
        decided = decide(asks(on("cuda:1", 5) | on("cpu", 1)), devices, busy("b", on("cuda:0", 2)), ahead=ahead)
        assert decided == Admission("admit")

    def test_one_that_waits_for_a_device_that_has_gone_keeps_nobody_waiting(self) -> None:
        assert decide(asks(on(gb=3)), [cpu(5)], ahead=[asks(on("cuda:0", 9), waited=99)]) == Admission("admit")


def test_3_a_model_that_fits_beside_the_others_evicts_nobody() -> None:
    assert decide(asks(on(gb=5)), [cpu(5)], idle("a")) == Admission("admit")


class TestEviction:
    """4."""

    def test_nobody_goes_where_engines_that_are_ending_leave_enough(self) -> None:
        assert decide(asks(on(gb=12)), [cpu(5)], idle("ending", state="leaving"), idle("a")).verdict == "wait"

    def test_one_that_leaves_may_answer_for_minutes_and_is_not_waited_for(self) -> None:
        assert decide(asks(on(gb=12)), [cpu(5)], busy("leaving", state="leaving"), idle("a")).evict == ("a",)

    def test_no_more_go_than_are_needed_beside_those_that_are_ending(self) -> None:
        residents = [idle("ending", state="leaving"), idle("a", seconds=900), idle("b")]
        assert decide(asks(on(gb=22)), [cpu(5)], *residents).evict == ("a",)

    def test_the_longest_idle_goes_first_and_no_more_than_needed(self) -> None:
        residents = [idle("new", seconds=10), idle("old", seconds=900), idle("middle", seconds=100)]
        assert decide(asks(on(gb=22)), [cpu(5)], *residents) == Admission("admit", evict=("old", "middle"))

    def test_one_that_loads_quickly_goes_before_one_that_takes_long(self) -> None:
        residents = [idle("slow", seconds=300, load_seconds=60), idle("quick", seconds=100, load_seconds=2)]
        assert decide(asks(on(gb=12)), [cpu(5)], *residents).evict == ("quick",)

    def test_each_step_of_priority_counts_twice(self) -> None:
        residents = [idle("dear", seconds=300, priority=2), idle("usual", seconds=100)]
        assert decide(asks(on(gb=12)), [cpu(5)], *residents).evict == ("usual",)
        residents = [idle("dear", seconds=500, priority=2), idle("usual", seconds=100)]
        assert decide(asks(on(gb=12)), [cpu(5)], *residents).evict == ("dear",)

    def test_one_that_turns_out_not_to_help_stays(self) -> None:
        small = idle("small", on(gb=0.5), seconds=900)
        assert decide(asks(on(gb=12)), [cpu(5)], idle("a"), small).evict == ("a",)

    def test_pinned_and_busy_models_stay(self) -> None:
        residents = [idle("pinned", seconds=900, is_pinned=True), busy("busy", seconds=900), idle("a", seconds=1)]
        assert decide(asks(on(gb=12)), [cpu(5)], *residents).evict == ("a",)

    def test_only_those_go_whose_memory_is_on_the_device_that_is_short(self) -> None:
        residents = [idle("other card", on("cuda:1", 20), seconds=900), idle("this card", on("cuda:0", 20), seconds=5)]
        decided = decide(asks(on("cuda:0", 12) | on("cpu", 1)), [cpu(5), gpu(0, 2), gpu(1, 2)], *residents)
        assert decided.evict == ("this card",)

    def test_a_model_on_two_devices_may_need_one_to_go_from_each(self) -> None:
        residents = [idle("a", on("cuda:0", 20)), idle("b", on("cuda:1", 20)), idle("c", on("cpu", 50))]
        needs = on("cuda:0", 12) | on("cuda:1", 12) | on("cpu", 1)
        assert set(decide(asks(needs), [cpu(5), gpu(0, 2), gpu(1, 2)], *residents).evict) == {"a", "b"}


class TestWaiting:
    """5."""

    def test_a_busy_model_is_waited_for_and_named(self) -> None:
        decided = decide(asks(on(gb=12)), [cpu(5)], busy("llama"))
        assert (decided.verdict, decided.let_go) == ("wait", ())
        assert "new needs 12.0 GB on cpu (main memory), and 5.0 GB of 64.0 GB are free there." in decided.message
        assert "llama" in decided.message

    def test_a_model_that_loads_is_waited_for_and_never_evicted(self) -> None:
        decided = decide(asks(on(gb=12), waited=99), [cpu(15)], idle("a", state="loading"))
        assert (decided.verdict, decided.let_go) == ("wait", ())

    def test_after_ten_seconds_a_model_in_constant_use_takes_no_new_requests(self) -> None:
        residents = [busy("a", load_seconds=60), busy("b", load_seconds=2), busy("pinned", is_pinned=True)]
        assert decide(asks(on(gb=12), waited=PATIENCE_SECONDS), [cpu(5)], *residents).let_go == ("b",)

    def test_nobody_more_is_let_go_while_enough_are_leaving(self) -> None:
        residents = [busy("a", state="leaving"), busy("b")]
        assert decide(asks(on(gb=12), waited=99), [cpu(5)], *residents).let_go == ()


class TestPromises:
    def test_what_an_engine_was_promised_and_has_not_taken_is_not_free(self) -> None:
        half = idle("a", on(gb=10), state="loading", taken=on(gb=4))
        assert count_reclaimable([cpu(20)], residents=[half])[0].free_bytes == 14 * GB

    def test_a_ready_engine_may_not_have_touched_its_cache_yet(self) -> None:
        assert count_reclaimable([cpu(20)], residents=[idle("a", taken=on(gb=1))])[0].free_bytes == 11 * GB

    def test_where_nothing_is_known_a_ready_engine_has_all_and_a_loading_one_nothing(self) -> None:
        residents = [idle("a", on("cuda:0")), idle("b", on("cuda:0"), state="loading", taken=on("cpu", 1))]
        assert count_reclaimable([gpu(0, 20)], residents=residents)[0].free_bytes == 10 * GB

    def test_all_but_the_pinned_could_give_back_what_they_hold_and_were_promised(self) -> None:
        residents = [idle("a", taken=on(gb=1)), busy("b", taken=on(gb=12)), idle("c", is_pinned=True)]
        assert count_reclaimable([cpu(50)], residents=residents)[0].reclaimable_bytes == 22 * GB


NAMES = ("cpu", "cuda:0", "cuda:1")
BYTES = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 40 * GB), min_size=1)
RESIDENTS = st.lists(
    st.builds(
        Resident,
        st.uuids().map(str),
        BYTES,
        in_flight=st.integers(0, 2),
        is_pinned=st.booleans(),
        idle_since=st.floats(0, NOW),
        load_seconds=st.floats(0, 600),
        priority=st.integers(-100, 100),
        state=st.sampled_from(["loading", "ready", "leaving"]),
        taken=BYTES,
    ),
    max_size=6,
)
DEVICES = st.lists(st.integers(0, 64 * GB), min_size=3, max_size=3).map(
    lambda sizes: [Device(name, 64 * GB, size, "described") for name, size in zip(NAMES, sizes, strict=True)]
)
ARRIVALS = st.builds(Arrival, st.just("new"), BYTES, waiting_since=st.floats(0, NOW), has_made_room=st.booleans())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ARRIVALS, DEVICES, RESIDENTS, st.lists(ARRIVALS, max_size=2))
def test_what_holds_for_every_decision(arrival, devices, residents, ahead) -> None:
    seen = {device.name: device for device in count_reclaimable(devices, residents=residents)}
    decided = plan_admission(arrival, devices=seen.values(), residents=residents, now=NOW, ahead=ahead)

    def fits_without(names: Sequence[str]) -> bool:
        freed = [each for each in residents if each.model_name in names]
        return all(
            needed <= seen[name].free_bytes + sum(each.count_freed(name) for each in freed)
            for name, needed in arrival.needs.items()
        )

    touched = [each for each in residents if each.model_name in decided.evict + decided.let_go]
    assert all(not each.is_pinned and each.state == "ready" for each in touched)
    assert all(each.in_flight == 0 for each in residents if each.model_name in decided.evict)
    if decided.verdict == "admit":
        going = [each.model_name for each in residents if each.state == "leaving"] if decided.evict else []
        assert fits_without([*decided.evict, *going])
        assert not any(fits_without([each for each in decided.evict if each != spared]) for spared in decided.evict)
    else:
        assert decided.evict == ()
        assert decided.message.startswith("new needs") or decided.verdict == "wait"
    if decided.verdict == "refuse":
        assert not fits_without([each.model_name for each in residents if not each.stays])
