from django.urls import path

from registry import views

urlpatterns = [
    path("models", views.ModelListView.as_view(), name="models"),
    path("models/estimate", views.EstimateView.as_view(), name="model-estimate"),
    path("models/<str:model_name>", views.ModelView.as_view(), name="model"),
    path("models/<str:model_name>/download", views.DownloadView.as_view(), name="model-download"),
    path("models/<str:model_name>/pin", views.PinView.as_view(), name="model-pin"),
    path("jobs", views.JobListView.as_view(), name="jobs"),
    path("jobs/<int:pk>", views.JobView.as_view(), name="job"),
    path("jobs/<int:pk>/cancel", views.JobCancelView.as_view(), name="job-cancel"),
]
