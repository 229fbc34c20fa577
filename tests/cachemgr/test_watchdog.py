"""A beat that is silent gets a stand-in, and a worker that was away wakes up to one measurement. Real workers, a real
broker, a real database."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from cachemgr import watchdog
from cachemgr.models import Cache, CacheSnapshot
from cachemgr.monitor import measure_cache
from cachemgr.watchdog import Watch
from homelab.launch import programs
from tests.cachemgr.broker import Broker, running_broker
from tests.cachemgr.clock import make_clock
from tests.e2e.server import PROJECT, make_environment, wait_for
from tests.processes import command_of, is_over

MEASURE = "cachemgr.tasks.measure_caches"
THIN = "cachemgr.tasks.thin_history"
SENT_BY_BEAT = "Scheduler: Sending due task"
STANDS_IN = "beat is dead, or waits because the clock was set back"

# The rule


def test_a_sign_that_changes_in_time_is_life() -> None:
    watch = Watch(limit_seconds=10, now=0)
    assert [watch.is_silent(sign, now=now) for sign, now in [("a", 0), ("b", 9), ("c", 30), ("c", 40)]] == [False] * 4


def test_a_sign_that_stays_for_longer_than_the_limit_is_silence_once_a_limit() -> None:
    watch = Watch(limit_seconds=10, now=0)
    found = [watch.is_silent("a", now=now) for now in range(0, 36, 5)]
    assert found == [False, False, False, True, False, False, True, False]


@pytest.mark.django_db
def test_every_measurement_that_is_stored_is_a_sign_of_life(caches) -> None:
    signs = [watchdog.last_measurements()]
    measure_cache(caches.primary)
    signs.append(watchdog.last_measurements())
    measure_cache(caches.primary)  # in the same slot
    signs.append(watchdog.last_measurements())
    assert len(set(signs)) == 3 and watchdog.last_measurements() == signs[2]


@pytest.mark.django_db(transaction=True)
def test_the_stand_in_measures_without_a_broker_and_wakes_all_other_tasks_with_one(caches, caplog) -> None:
    begun = timezone.now()
    watchdog.stand_in()
    assert Cache.objects.filter(latest__figures_at__gte=begun).count() == 2
    assert "beat is dead, or waits because the clock was set back" in caplog.text
    CacheSnapshot.objects.all().delete()
    with running_broker(django_settings.BROKER_SOCKET) as broker:
        watchdog.stand_in()
        waiting = broker.tasks()
    others = {entry["task"] for entry in django_settings.CELERY_BEAT_SCHEDULE.values()} - {MEASURE}
    assert waiting == sorted(others) and len(others) >= 3
    assert CacheSnapshot.objects.count() == 2


# Real workers


@dataclass(frozen=True)
class Site:
    """A data folder with a database, and the environment of its processes."""

    folder: Path
    environment: dict[str, str]

    def rows(self, query: str) -> list[tuple]:
        with closing(sqlite3.connect(self.folder / "data/db.sqlite3")) as database:
            return database.execute(query).fetchall()

    def measurements(self) -> list[str]:
        """When the caches were measured."""
        return [moment for (moment,) in self.rows("SELECT taken_at FROM cachemgr_cachesnapshot ORDER BY taken_at")]

    def newest(self) -> list[str]:
        """When each cache was measured last, whatever the clock did since."""
        query = "SELECT taken_at FROM cachemgr_cachesnapshot WHERE id IN (SELECT latest_id FROM cachemgr_cache)"
        return [moment for (moment,) in self.rows(query)]

    def ages(self) -> list[int]:
        """How many seconds old the figures are, as the shell and the API say it."""
        command = [sys.executable, "manage.py", "cache_stats", "--json"]
        answer = subprocess.run(command, cwd=PROJECT, env=self.environment, capture_output=True, check=True).stdout
        return [json.loads(answer)[location]["age_seconds"] for location in ("primary", "secondary")]

    @contextmanager
    def running(self, *command: str) -> Iterator["Running"]:
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        with open(log, "w") as output:
            process = subprocess.Popen(
                command, cwd=PROJECT, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            yield Running(process, log)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen
    log: Path

    def has_said(self, text: str) -> int:
        return self.log.read_text().count(text)

    def beat(self) -> psutil.Process | None:
        """The embedded beat: the worker's oldest fork. A younger one is about to become another program."""
        worker = psutil.Process(self.process.pid)
        forks = [each for each in worker.children() if command_of(each) == worker.cmdline()]
        return min(forks, key=psutil.Process.create_time, default=None)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    environment = make_environment(folder, port=1)
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=PROJECT, env=environment, check=True)
    return folder / "data/db.sqlite3"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "b.sock") as running:
        yield running


@pytest.fixture
def make_site(tmp_path: Path, broker: Broker, empty_database: Path):
    def make(*, interval_seconds: int, **settings: str) -> Site:
        environment = make_environment(
            tmp_path,
            port=1,
            REDIS_URL=f"redis+socket://{tmp_path / 'b.sock'}",
            CACHE_MONITOR_INTERVAL_SECONDS=str(interval_seconds),
            PYTHONUNBUFFERED="1",
            **settings,
        )
        (tmp_path / "data").mkdir()
        shutil.copy(empty_database, tmp_path / "data/db.sqlite3")
        return Site(tmp_path, environment)

    return make


def worker_command(site: Site, *, with_beat: bool) -> list[str]:
    command = list(programs._worker(site.folder / "data").command)
    return command if with_beat else command[: command.index("-B")]


def test_when_beat_is_killed_the_worker_measures_by_itself_and_says_so(make_site) -> None:
    site = make_site(interval_seconds=1)
    with site.running(*worker_command(site, with_beat=True)) as worker:
        wait_for(lambda: len(site.measurements()) >= 4)
        beat = wait_for(worker.beat)
        beat.kill()
        wait_for(lambda: is_over(beat))
        wait_for(lambda: worker.has_said(STANDS_IN))
        last_of_beat = site.measurements()[-1]
        wait_for(lambda: site.measurements()[-1] > last_of_beat)
        wait_for(lambda: worker.has_said(f"Task {THIN}") >= 2)  # received and done; beat sends it once a day


def test_when_the_clock_is_set_back_beat_falls_silent_and_the_worker_measures_by_itself(make_site, tmp_path) -> None:
    """A beat that waits until the clock is where it was; its worker lives by the same clock, and goes on."""
    clock = make_clock(tmp_path)
    site = make_site(interval_seconds=1, **clock.environment)
    with site.running(*worker_command(site, with_beat=True)) as worker:
        wait_for(lambda: len(site.measurements()) >= 4)
        sent, begun = worker.has_said(SENT_BY_BEAT), site.measurements()[0]
        clock.set_back()
        assert all(0 <= age < 60 for age in site.ages())  # of figures from the future
        wait_for(lambda: worker.has_said(STANDS_IN))
        wait_for(lambda: max(site.newest()) < begun)
        wait_for(lambda: worker.has_said(f"Task {THIN}") >= 2)  # received and done; beat sends it once a day
        assert all(0 <= age < 60 for age in site.ages())
        assert worker.has_said(SENT_BY_BEAT) <= sent + 1 and worker.beat()  # one may have been on its way
        clock.set_right()
        wait_for(lambda: min(site.newest()) > begun)  # beat itself looks at the clock every five minutes


def test_a_worker_that_was_away_makes_one_measurement_when_it_comes_back(make_site, broker: Broker) -> None:
    site = make_site(interval_seconds=1)
    schedule = str(site.folder / "schedule")
    with site.running(sys.executable, "-m", "celery", "-A", "homelab", "beat", "--schedule", schedule):
        wait_for(lambda: broker.tasks().count(MEASURE) >= 3)
    missed = broker.tasks().count(MEASURE)
    with site.running(*worker_command(site, with_beat=False)) as worker:  # it starts in more than a second
        wait_for(lambda: worker.has_said(f"Discarding revoked task: {MEASURE}") == missed)
        wait_for(lambda: worker.has_said(f"Task {MEASURE}") and not broker.tasks())
        wait_for(lambda: worker.has_said("succeeded in") >= 2)
        per_cache = site.rows("SELECT count(*) FROM cachemgr_cachesnapshot GROUP BY cache_id")
    assert per_cache == [(1,), (1,)]
