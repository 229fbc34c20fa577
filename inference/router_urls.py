from django.urls import path

from inference import router_views

urlpatterns = [
    path("", router_views.RouterModelsView.as_view(), name="router-models"),
    path("/load", router_views.RouterLoadView.as_view(), name="router-load"),
    path("/unload", router_views.RouterUnloadView.as_view(), name="router-unload"),
]
