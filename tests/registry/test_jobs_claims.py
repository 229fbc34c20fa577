"""Who may run which job now: one a pair of drives, under races of processes, and leases when clocks step.

On PostgreSQL too: see test_on_postgresql.py.
"""

import os
import socket
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from cachemgr.models import Cache, CacheSnapshot
from registry import jobs, leases
from registry.leases import Lease
from registry.models import Job, ModelRegistry
from tests.registry.test_races import RACERS, racing

pytestmark = pytest.mark.django_db(transaction=True)


def make_job(number: int, *, kind: str = "move", **places: Cache) -> Job:
    model = ModelRegistry.objects.create(model_name=f"m{number}", hf_path=f"org/m{number}")
    return Job.objects.create(kind=kind, model=model, **places)


def put_on(cache: Cache, *, device: int) -> None:
    cache.latest = CacheSnapshot.objects.create(cache=cache, slot=device, state="ok", device=device)
    cache.save()


@pytest.fixture
def drives(caches):
    """Two caches on two drives, and a third cache that shares the second drive."""
    third = Cache.objects.create(location="custom", path=f"{caches.secondary.path}-more")
    for cache, device in ((caches.primary, 1), (caches.secondary, 2), (third, 2)):
        put_on(cache, device=device)
    return caches.primary, caches.secondary, third


# Pairs


def test_a_pair_is_of_filesystems_in_either_direction(drives) -> None:
    fast, slow, also_slow = drives
    there, back = make_job(1, source=fast, target=slow), make_job(2, source=also_slow, target=fast)
    assert there.pair == back.pair == "drive 1+drive 2"
    assert make_job(3, source=slow, target=also_slow).pair == make_job(4, kind="verify", source=slow).pair == "drive 2"
    assert make_job(5, kind="download", target=slow).pair == make_job(6, kind="repair", target=slow).pair
    assert Job.objects.get(model__model_name="m5").pair == "drive 2+hub"


def test_a_cache_that_was_never_measured_is_a_drive_of_its_own(caches) -> None:
    assert make_job(1, kind="verify", source=caches.primary).pair == f"cache {caches.primary.pk}"


def test_two_jobs_between_the_same_drives_take_turns_and_others_do_not_wait(drives) -> None:
    fast, slow, also_slow = drives
    first, second = make_job(1, source=fast, target=slow), make_job(2, source=also_slow, target=fast)
    other = make_job(3, kind="download", target=slow)
    assert first.claim() and other.claim()
    assert not second.claim() and jobs.run_job(second.pk) == "waiting"
    first.close(Job.State.DONE)
    assert second.claim()


def test_the_setting_lets_more_of_them_run(drives, settings) -> None:
    settings.JOBS_PER_DRIVE_PAIR = 2
    made = [make_job(number, kind="verify", source=drives[0]) for number in range(3)]
    assert [job.claim() for job in made] == [True, True, False]
    made[0].close(Job.State.DONE)
    assert made[2].claim()


def test_the_database_itself_refuses_a_second_job_in_a_slot(drives) -> None:
    first, second = (make_job(number, kind="verify", source=drives[0]) for number in range(2))
    assert first.claim()
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.filter(pk=second.pk).update(state="running")


def test_a_pair_is_looked_up_when_the_job_is_claimed(drives) -> None:
    job = make_job(1, kind="verify", source=drives[0])
    put_on(drives[0], device=7)  # the machine was started again, and numbers its drives anew
    assert Job.objects.get(pk=job.pk).claim() and Job.objects.get(pk=job.pk).pair == "drive 7"


def test_a_job_that_only_has_to_clean_up_does_not_wait_for_busy_drives(drives) -> None:
    first, second = (make_job(number, kind="verify", source=drives[0]) for number in range(2))
    assert first.claim()
    Job.objects.filter(pk=second.pk).update(started_at=timezone.now())
    assert jobs.cancel_job(second).state == "queued"
    assert jobs.run_job(second.pk) == "cancelled"


def test_the_end_of_a_job_wakes_whoever_waits_longest_for_its_drives(drives, monkeypatch) -> None:
    woken = []
    monkeypatch.setattr(jobs, "wake_worker", lambda job, **_: woken.append(job.pk))
    monkeypatch.setitem(jobs.WORK, Job.Kind.VERIFY, jobs.Work(lambda job, *, report: None))
    made = [make_job(number, kind="verify", source=drives[0]) for number in range(3)]
    other = make_job(3, kind="verify", source=drives[1])
    assert jobs.run_job(made[0].pk) == "done" and woken == [made[1].pk]
    assert jobs.run_job(other.pk) == "done" and len(woken) == 1


# Races


def test_of_eight_workers_that_want_one_job_exactly_one_gets_it_in_each_of_thirty_rounds(drives) -> None:
    job = make_job(0, kind="verify", source=drives[0])
    with racing(lambda number, attempt: str(Job.objects.get(pk=job.pk).claim())) as race:
        for attempt in range(1, 31):
            assert race.round() == ["False"] * 7 + ["True"]
            assert Job.objects.get().attempt == attempt
            Job.objects.update(state="queued")


@pytest.mark.parametrize("at_once", [1, 3])
def test_of_eight_jobs_between_two_drives_as_many_start_as_may_in_each_of_thirty_rounds(
    drives, settings, at_once
) -> None:
    settings.JOBS_PER_DRIVE_PAIR = at_once
    made = [make_job(number, source=drives[number % 2], target=drives[1 - number % 2]) for number in range(RACERS)]
    with racing(lambda number, attempt: str(Job.objects.get(pk=made[number].pk).claim())) as race:
        for _ in range(30):
            answers = race.round()
            assert answers.count("True") == at_once and answers.count("False") == RACERS - at_once, answers
            assert Job.objects.running().count() == at_once
            Job.objects.update(state="queued", pair="")


def test_eight_workers_that_write_at_once_wait_less_than_two_seconds_and_meet_no_locked_database(drives) -> None:
    made = [make_job(number, kind="remove") for number in range(RACERS)]

    def work(number: int, attempt: int) -> str:
        job, waits = Job.objects.get(pk=made[number].pk), []
        for step in ("claim", *["beat"] * 20, "close"):
            began = time.monotonic()
            assert job.close(Job.State.DONE) if step == "close" else getattr(job, step)()
            waits.append(time.monotonic() - began)
        return "quick" if max(waits) < 2 else f"{max(waits):.1f} s"

    with racing(work) as race:
        assert race.round() == ["quick"] * RACERS
    assert set(Job.objects.values_list("state", "attempt")) == {("done", 1)}


# Leases


@pytest.fixture
def job(drives) -> Job:
    job = make_job(1, kind="verify", source=drives[0])
    assert job.claim()
    return job


def now_and_when_the_clock_was_set() -> list[timedelta]:
    return [timedelta(0), timedelta(hours=2), -timedelta(hours=1), timedelta(days=4000)]


@pytest.mark.parametrize("step", now_and_when_the_clock_was_set(), ids=str)
def test_a_lease_of_a_living_process_of_this_host_stands_however_the_clock_is_set(step) -> None:
    lease = leases.fresh(now=timezone.now())
    assert lease.is_held(now=timezone.now() + step)


@pytest.mark.parametrize("step", now_and_when_the_clock_was_set(), ids=str)
def test_no_set_clock_takes_jobs_from_their_workers(job, step, monkeypatch) -> None:
    later = timezone.now() + step
    monkeypatch.setattr(timezone, "now", lambda: later)
    jobs.reconcile()
    assert Job.objects.get().state == "running" and job.beat(bytes_done=1)
    job.close(Job.State.DONE)
    assert Job.objects.get().state == "done"


def test_a_lease_of_this_host_that_gave_no_sign_for_a_minute_has_run_out() -> None:
    now = timezone.now()
    fresh = leases.fresh(now=now)
    assert Lease(fresh.owner, fresh.beat_at - 59, now).is_held(now=now)
    assert not Lease(fresh.owner, fresh.beat_at - 61, fresh.expires_at).is_held(now=now)


def test_another_hosts_lease_is_good_until_it_runs_out(job) -> None:
    Job.objects.update(lease_owner="elsewhere:1:1.0", lease_beat_at=0)
    jobs.reconcile()
    assert Job.objects.get().state == "running"
    Job.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    jobs.reconcile()
    assert (Job.objects.get().state, Job.objects.get().attempt) == ("queued", 1)


@pytest.mark.parametrize("others", ["another-boot.1", "{boot}.1"])
def test_a_process_that_got_the_number_of_a_dead_one_holds_nothing(job, others) -> None:
    boot = leases.own_name().rpartition(":")[2].partition(".")[0]
    Job.objects.update(lease_owner=f"{socket.gethostname()}:{os.getpid()}:{others.format(boot=boot)}")
    jobs.reconcile()
    assert Job.objects.get().state == "queued"


def test_the_lease_of_a_killed_process_is_free_at_once_also_while_its_parent_has_not_looked(job) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        owner = f"{socket.gethostname()}:{child.pid}:{leases._start_of(str(child.pid))}"
        lease = Lease(owner, time.monotonic(), None)
        assert lease.is_held(now=timezone.now())
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the list of processes
        assert Path("/proc", str(child.pid)).exists() and not lease.is_held(now=timezone.now())
    assert not lease.is_held(now=timezone.now())


def test_a_worker_that_comes_back_to_life_keeps_its_job(job) -> None:
    """Between the look at a lease and the taking of it."""
    seen = Job.objects.get(pk=job.pk)
    assert job.beat()
    assert not seen.take_over() and Job.objects.get().lease_owner == leases.own_name()
