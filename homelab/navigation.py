"""The sidebar: one navigation for our pages and the admin."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def stylesheet(request: HttpRequest) -> str:
    return static("homelab/homelab.css")


def icon(request: HttpRequest) -> str:
    return static("homelab/icon.svg")


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    return [
        {
            "title": "",
            "items": [
                _item("Home", "home", "home") | {"active": lambda request: request.path == "/"},
                _item("Models", "deployed_code", "admin:registry_modelregistry_changelist"),
                _item("Chat", "forum", "chat-page"),
                _item("Jobs", "sync", "jobs-page"),
                _item("Settings", "tune", "settings-page"),
                _item("Clean up", "delete_sweep", "clean-page"),
                _item("Trash", "delete", "admin:cachemgr_trashedrepo_changelist"),
            ],
        },
        {
            "title": "Behind it",
            "separator": True,
            "collapsible": True,
            "items": [
                _item("Caches", "hard_drive", "admin:cachemgr_cache_changelist"),
                _item("Found repos", "inventory_2", "admin:cachemgr_cachedrepo_changelist"),
                _item("Usage", "monitoring", "admin:inference_usagerecord_changelist"),
                _item("API keys", "key", "admin:access_apikey_changelist"),
                _item("History", "history", "admin:admin_logentry_changelist"),
                _item("Accounts", "person", "admin:auth_user_changelist"),
                _item("API", "api", "docs"),
            ],
        },
    ]


def _item(title: str, icon: str, route: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(route)}
