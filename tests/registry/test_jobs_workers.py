"""Workers that are stopped, killed, or live by another clock, and a broker that is away or forgets: real workers, a real
broker and hub, and a database that they share with the test."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from django.conf import settings as django_settings
from django.db import connection

from homelab.launch import programs
from registry import jobs, services
from registry.models import Job, ModelRegistry
from tests.cachemgr.broker import running_broker
from tests.cachemgr.clock import make_clock
from tests.e2e.server import PROJECT, make_environment, wait_for
from tests.factories import loadable_files, write_hub_repo
from tests.processes import command_of, is_over

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="the workers share the file of the test's database"),
]
SLOW = 1_000_000  # bytes per second, for 4 MB


@pytest.fixture
def job(caches, hub, hub_repos) -> Job:
    write_hub_repo(hub_repos, "org/m", files=loadable_files(weights=4_000_000))
    registered = services.register(services.Wish("m", "org/m", cache_location="primary"))
    return services.request_download(registered.model)


@pytest.fixture
def start_worker(caches, hub, tmp_path):
    """Starts the process that does the transfers; it takes the other tasks too."""

    @contextmanager
    def start(**others: str) -> Iterator[psutil.Process]:
        environment = make_environment(
            tmp_path,
            port=1,
            PRIMARY_CACHE_PATH=caches.primary.path,
            SECONDARY_CACHE_PATH=caches.secondary.path,
            DATABASE_URL=f"sqlite:///{connection.settings_dict['NAME']}",
            REDIS_URL=f"redis+socket://{django_settings.BROKER_SOCKET}",
            HF_ENDPOINT=hub.endpoint,
            **others,
        )
        command = list(programs._transfers().command)
        command[command.index("transfers", command.index("-Q"))] = "celery,transfers"
        with open(tmp_path / "worker.log", "a") as log:
            started = subprocess.Popen(
                command, cwd=PROJECT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield psutil.Process(started.pid)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()

    return start


@pytest.fixture
def broker():
    with running_broker(django_settings.BROKER_SOCKET) as running:
        yield running


def state_of(job: Job) -> str:
    return Job.objects.get(pk=job.pk).state


def wait_for_bytes(job: Job) -> None:
    wait_for(lambda: Job.objects.get(pk=job.pk).bytes_done > SLOW)


def downloader_of(worker: psutil.Process) -> psutil.Process | None:
    return next((child for child in worker.children() if "registry.fetch" in command_of(child)), None)


def test_a_job_asked_for_while_the_broker_is_away_or_forgotten_by_it_is_done_when_a_worker_comes(
    job, hub, start_worker
) -> None:
    """The request in the fixture met no broker."""
    other = ModelRegistry.objects.create(model_name="twin", hf_path="org/m", cache_location="secondary")
    with running_broker(django_settings.BROKER_SOCKET) as broker:
        forgotten = services.request_download(other)
        assert broker.tasks("transfers") == ["registry.tasks.run_job"]
        broker.client.flushall()
        with start_worker():
            wait_for(lambda: state_of(job) == state_of(forgotten) == "done")
    assert set(ModelRegistry.objects.values_list("status", flat=True)) == {"ready"}


def test_a_request_for_a_download_is_answered_at_once_while_the_broker_is_away(api, caches, hub) -> None:
    ModelRegistry.objects.create(model_name="m", hf_path="org/m")
    began = time.monotonic()
    answer = api.post("/api/models/m/download")
    assert (answer.status_code, answer.json()["state"]) == (202, "queued") and time.monotonic() - began < 5


def test_a_download_survives_a_stop_and_a_kill_of_its_worker(job, hub, caches, broker, start_worker) -> None:
    hub.faults.rate_bytes_per_second = SLOW
    with start_worker() as worker:
        wait_for_bytes(job)
        began = time.monotonic()
        worker.terminate()
        wait_for(lambda: state_of(job) == "queued")
        worker.wait(timeout=10)
        assert time.monotonic() - began < programs.STOP_SECONDS
    assert (Job.objects.get().attempt, Job.objects.get().error_code) == (0, "")
    with start_worker() as worker:
        wait_for(lambda: state_of(job) == "running")
        child = wait_for(lambda: downloader_of(worker))
        worker.kill()
        wait_for(lambda: is_over(child))
    assert state_of(job) == "running"  # nobody has looked yet
    hub.faults.rate_bytes_per_second = None
    with start_worker():
        wait_for(lambda: state_of(job) == "done")
    assert Job.objects.get().attempt == 2 and hub.downloads_of("config.json") == 1
    assert not [*Path(caches.primary.path).rglob("*.incomplete")]


def test_a_worker_whose_clock_is_set_back_keeps_its_job(job, hub, broker, start_worker, tmp_path) -> None:
    """This process's clock is an hour ahead of the worker's, and looks for lost jobs."""
    clock = make_clock(tmp_path)
    hub.faults.rate_bytes_per_second = SLOW
    with start_worker(**clock.environment):
        wait_for_bytes(job)
        clock.set_back()
        owner, expired = Job.objects.get().lease_owner, Job.objects.get().created_at
        wait_for(lambda: Job.objects.get().lease_expires_at < expired)
        jobs.reconcile()
        assert Job.objects.get().lease_owner == owner
        wait_for(lambda: state_of(job) == "done")
    assert Job.objects.get().attempt == 1
