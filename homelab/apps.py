from django.apps import AppConfig


class HomelabConfig(AppConfig):
    name = "homelab"

    def ready(self) -> None:
        from homelab import celery  # noqa: F401  (makes it the app that services wake workers through)
