from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "registry"
    verbose_name = "Models"

    def ready(self) -> None:
        from cachemgr.room import room_wanted
        from cachemgr.signals import cache_measured
        from registry.adoption import follow_measurement
        from registry.room import end_stale_promises, offer_room

        cache_measured.connect(follow_measurement)
        cache_measured.connect(end_stale_promises)
        room_wanted.connect(offer_room)
