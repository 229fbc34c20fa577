"""The admin of what belongs to no app: the history of who did what."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display


class LookOnlyAdmin(ModelAdmin):
    """Rows that the server writes: nobody edits a measurement, or what happened."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class AuditedAdmin(ModelAdmin):
    """Its services write the history, whichever door somebody came through."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Nothing: see above."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Nothing: see above."""


@admin.register(LogEntry)
class HistoryAdmin(LookOnlyAdmin):
    """Also of what is removed by now, and has no page of its own any more."""

    list_display = ("when", "user", "kind", "name", "message")
    list_filter = ("content_type",)
    list_select_related = ("user", "content_type")
    search_fields = ("object_repr", "change_message")

    @display(description="When", ordering="action_time")
    def when(self, obj: LogEntry) -> datetime:
        return obj.action_time

    @display(description="Kind")
    def kind(self, obj: LogEntry) -> str:
        return obj.content_type.name if obj.content_type else ""

    @display(description="Name", ordering="object_repr")
    def name(self, obj: LogEntry) -> str:
        return obj.object_repr

    @display(description="What")
    def message(self, obj: LogEntry) -> str:
        return obj.get_change_message() or str(obj)
