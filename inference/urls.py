from django.urls import path

from inference import views

urlpatterns = [
    path("ps", views.LoadedModelsView.as_view(), name="loaded-models"),
    path("models/<str:model_name>/load", views.LoadView.as_view(), name="model-load"),
    path("models/<str:model_name>/unload", views.UnloadView.as_view(), name="model-unload"),
]
