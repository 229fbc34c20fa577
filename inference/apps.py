from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"
    verbose_name = "Inference"

    def ready(self) -> None:
        from inference.services import answer_presence
        from registry.presence import presence_asked

        presence_asked.connect(answer_presence)
