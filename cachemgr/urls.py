from django.urls import path

from cachemgr import views

urlpatterns = [
    path("stats", views.CacheStatsView.as_view(), name="cache-stats"),
    path("refresh", views.CacheRefreshView.as_view(), name="cache-refresh"),
    path("check", views.CacheCheckView.as_view(), name="cache-check"),
    path("recommend", views.CacheRecommendView.as_view(), name="cache-recommend"),
    path("history", views.CacheHistoryView.as_view(), name="cache-history"),
    path("events", views.CacheEventsView.as_view(), name="cache-events"),
    path("adopt", views.CacheAdoptView.as_view(), name="cache-adopt"),
]
