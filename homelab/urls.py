"""Every route. `/health` is for everybody, the rest is behind the gate."""

from django.contrib import admin
from django.http import HttpRequest, JsonResponse
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView


def health(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


urlpatterns = [
    path("favicon.ico", RedirectView.as_view(url=static("homelab/icon.svg"))),
    path("health", health, name="health"),
    path("", include("access.urls")),
    path("", include("web.urls")),
    path("admin/", admin.site.urls),
    path("api/cache/", include("cachemgr.urls")),
    path("api/", include("inference.urls")),
    path("api/", include("registry.urls")),
    path("v1/", include("inference.openai.urls")),
    path("models", include("inference.router_urls")),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path(
        "api/docs",
        SpectacularSwaggerSplitView.as_view(url_name="schema", http_method_names=["get", "head"]),
        name="docs",
    ),
]

handler400 = "homelab.api.bad_request"
handler403 = "homelab.api.permission_denied"
handler404 = "homelab.api.page_not_found"
handler500 = "homelab.api.server_error"
