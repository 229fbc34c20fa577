from django.urls import path

from registry import job_views, views, work_views

urlpatterns = [
    path("models", views.ModelListView.as_view(), name="models"),
    path("models/estimate", views.EstimateView.as_view(), name="model-estimate"),
    path("models/<str:model_name>", views.ModelView.as_view(), name="model"),
    path("models/<str:model_name>/download", views.DownloadView.as_view(), name="model-download"),
    path("models/<str:model_name>/move", work_views.MoveView.as_view(), name="model-move"),
    path("models/<str:model_name>/verify", work_views.VerifyView.as_view(), name="model-verify"),
    path("models/<str:model_name>/repair", work_views.RepairView.as_view(), name="model-repair"),
    path("models/<str:model_name>/pin", views.PinView.as_view(), name="model-pin"),
    path("jobs", job_views.JobListView.as_view(), name="jobs"),
    path("jobs/events", job_views.JobEventsView.as_view(), name="job-events"),
    path("jobs/<int:pk>", job_views.JobView.as_view(), name="job"),
    path("jobs/<int:pk>/cancel", job_views.JobCancelView.as_view(), name="job-cancel"),
    path("jobs/<int:pk>/retry", job_views.JobRetryView.as_view(), name="job-retry"),
]
