from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "registry"
    verbose_name = "Models"

    def ready(self) -> None:
        from cachemgr.signals import cache_measured
        from registry.adoption import follow_measurement

        cache_measured.connect(follow_measurement)
