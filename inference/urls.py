from django.urls import path

from inference import stats_views, views

urlpatterns = [
    path("ps", views.LoadedModelsView.as_view(), name="loaded-models"),
    path("ps/events", views.PresenceEventsView.as_view(), name="loaded-models-events"),
    path("models/<str:model_name>/load", views.LoadView.as_view(), name="model-load"),
    path("models/<str:model_name>/unload", views.UnloadView.as_view(), name="model-unload"),
    path("models/<str:model_name>/stats", stats_views.StatsView.as_view(), name="model-stats"),
]
