"""Writes the past of a server that ran for long into its database: what benches of pages and answers read.

    python -m bench.past [--snapshots 50000] [--records 0] [--jobs 0]

Run as a process of its own, with the server's settings. Records and jobs are those of the registered models, so they
come after these.
"""

import argparse
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import cycle, islice
from typing import Any

_BATCH = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--snapshots", type=int, default=0, help="of all caches together, one each five minutes")
    parser.add_argument("--records", type=int, default=0, help="requests of all models, over 30 days")
    parser.add_argument("--jobs", type=int, default=0, help="verifications that are done")
    options = parser.parse_args()
    _set_up()
    write_snapshots(options.snapshots)
    write_records(options.records)
    write_jobs(options.jobs)


def _set_up() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "homelab.settings")
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def write_snapshots(count: int) -> None:
    """Of each cache a row every five minutes, the newest one five minutes ago."""
    from cachemgr.models import Cache, CacheSnapshot
    from cachemgr.monitor import current_slot
    from cachemgr.services import sync_configured_caches

    sync_configured_caches()
    now, slot, caches = _now(), current_slot(), list(Cache.objects.all())
    CacheSnapshot.objects.bulk_create(
        (
            CacheSnapshot(
                cache=cache, slot=slot - age, taken_at=now - timedelta(minutes=5 * age), state="ok", used_bytes=10**9
            )
            for cache in caches
            for age in range(1, count // len(caches) + 1)
        ),
        batch_size=_BATCH,
    )


def write_records(count: int) -> None:
    """Requests of a second with a hundred tokens, one in ten an error, in turn for each model."""
    from inference.models import UsageRecord

    UsageRecord.objects.bulk_create(
        (
            UsageRecord(
                kind="request",
                model_id=key,
                model_name=name,
                started_at=moment,
                duration_seconds=1.0,
                status="error" if number % 10 == 0 else "ok",
                prompt_tokens=100,
                completion_tokens=100,
                first_token_seconds=0.2,
                tokens_per_second=125.0,
            )
            for number, (key, name, moment) in enumerate(_spread(count))
        ),
        batch_size=_BATCH,
    )


def write_jobs(count: int) -> None:
    from registry.models import Job

    Job.objects.bulk_create(
        (
            Job(kind="verify", model_id=key, model_name=name, hf_path=name, state="done", finished_at=moment)
            for key, name, moment in _spread(count)
        ),
        batch_size=_BATCH,
    )


def _spread(count: int) -> Iterator[tuple[int, str, datetime]]:
    """So many moments of the last 30 days, each with the next model in turn: its key, and its name."""
    from registry.models import ModelRegistry

    models = list(ModelRegistry.objects.values_list("pk", "model_name")) if count else []
    now = _now()
    for number, (key, name) in enumerate(islice(cycle(models), count)):
        yield key, name, now - timedelta(days=30) * ((count - number) / count)


def _now() -> Any:
    from django.utils import timezone

    return timezone.now()


if __name__ == "__main__":
    main()
