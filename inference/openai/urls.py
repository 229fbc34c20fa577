from django.urls import path

from inference.openai import views

urlpatterns = [
    path("models", views.list_models, name="openai-models"),
    path("models/<path:name>", views.show_model, name="openai-model"),
    path("<path:rest>", views.unknown),
]
