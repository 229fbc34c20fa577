from django.urls import path

from cachemgr import views

urlpatterns = [
    path("stats", views.CacheStatsView.as_view(), name="cache-stats"),
    path("refresh", views.CacheRefreshView.as_view(), name="cache-refresh"),
    path("check", views.CacheCheckView.as_view(), name="cache-check"),
    path("recommend", views.CacheRecommendView.as_view(), name="cache-recommend"),
    path("history", views.CacheHistoryView.as_view(), name="cache-history"),
    path("events", views.CacheEventsView.as_view(), name="cache-events"),
    path("trash", views.TrashView.as_view(), name="cache-trash"),
    path("trash/<int:pk>", views.TrashedRepoView.as_view(), name="cache-trash-entry"),
    path("trash/<int:pk>/restore", views.RestoreView.as_view(), name="cache-trash-restore"),
    path("clean", views.CleanView.as_view(), name="cache-clean"),
    path("adopt", views.CacheAdoptView.as_view(), name="cache-adopt"),
]
