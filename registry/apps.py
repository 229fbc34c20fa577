from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "registry"
    verbose_name = "Registry"

    def ready(self) -> None:
        from django.db.models.signals import pre_delete

        from cachemgr.room import room_wanted
        from cachemgr.signals import cache_measured, repo_restored, repo_trashed
        from cachemgr.wanted import wanted_asked
        from registry.models import ModelRegistry
        from registry.removal import end_work, forget_trashed, take_back
        from registry.room import end_stale_promises, offer_room, tell_wanted
        from registry.settling import follow_measurement
        from registry.tidying import follow_measurement as tidy_up

        cache_measured.connect(follow_measurement)
        cache_measured.connect(end_stale_promises)
        cache_measured.connect(tidy_up)
        room_wanted.connect(offer_room)
        wanted_asked.connect(tell_wanted)
        repo_trashed.connect(forget_trashed)
        repo_restored.connect(take_back)
        pre_delete.connect(end_work, sender=ModelRegistry)
