"""The Celery app. Its messages only wake workers up: what is to be done is in the database."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "homelab.settings")

app = Celery("homelab")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
