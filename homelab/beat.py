"""What wakes the workers, and when: Celery's beat. A message that comes too late is not worth its work: it expires."""

from typing import Any

from celery.schedules import crontab


def beat_schedule(*, monitor_seconds: int) -> dict[str, dict[str, Any]]:
    return {
        "measure every cache": {
            "task": "cachemgr.tasks.measure_caches",
            "schedule": monitor_seconds,
            # A worker that was away wakes up to one measurement, not to one for each beat that it missed.
            "options": {"expires": monitor_seconds * 0.9},
        },
        "send again what the webhook did not take": {
            "task": "cachemgr.tasks.send_events",
            "schedule": 60,
            "options": {"expires": 55},
        },
        "thin the history of the caches": {
            "task": "cachemgr.tasks.thin_history",
            "schedule": 24 * 3600,
            "options": {"expires": 3600},
        },
        "end what was cut short in the trash, and empty what lay there long enough": {
            "task": "cachemgr.tasks.tend_trash",
            "schedule": 3600,
            "options": {"expires": 3500},
        },
        "read models again at night": {
            "task": "registry.tasks.scrub",
            "schedule": crontab(hour="3", minute="30"),
            "options": {"expires": 4 * 3600},
        },
        "forget jobs that ended a year ago": {
            "task": "registry.tasks.forget_jobs",
            "schedule": 3600,
            "options": {"expires": 3500},
        },
        "forget what models did a year ago": {
            "task": "inference.tasks.thin_records",
            "schedule": 3600,
            "options": {"expires": 3500},
        },
        "forget who did what a year ago": {
            "task": "homelab.tasks.forget_history",
            "schedule": 3600,
            "options": {"expires": 3500},
        },
        "queue again what lost its worker": {
            "task": "registry.tasks.reconcile_jobs",
            "schedule": 60,
            "options": {"expires": 55},
        },
    }
