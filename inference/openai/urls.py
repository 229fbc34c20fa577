from django.urls import path

from inference.openai import views

urlpatterns = [
    path("models", views.list_models, name="openai-models"),
    path("models/<path:name>", views.show_model, name="openai-model"),
    path("chat/completions", views.chat_completions, name="chat-completions"),
    path("completions", views.completions, name="completions"),
    path("<path:rest>", views.unknown),
]
