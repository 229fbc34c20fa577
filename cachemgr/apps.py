from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CachemgrConfig(AppConfig):
    name = "cachemgr"
    verbose_name = "Caches"

    def ready(self) -> None:
        from cachemgr import checks  # noqa: F401  (registers the system checks)
        from cachemgr.recovery import follow_measurement
        from cachemgr.signals import cache_measured

        post_migrate.connect(self.follow_settings, sender=self)
        cache_measured.connect(follow_measurement)

    @staticmethod
    def follow_settings(**_: object) -> None:
        """The server migrates at each start: that is when the rows follow `.env`."""
        from cachemgr.services import sync_configured_caches

        sync_configured_caches()
