from django.apps import AppConfig


class HomelabConfig(AppConfig):
    name = "homelab"

    def ready(self) -> None:
        from django.contrib.admin.models import LogEntry
        from django.db.models.signals import post_save

        from homelab import celery  # noqa: F401  (makes it the app that services wake workers through)
        from homelab.audit import write_line

        post_save.connect(write_line, sender=LogEntry)
