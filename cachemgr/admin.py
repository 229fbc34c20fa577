"""The admin of caches: what was found and measured, to look at."""

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from cachemgr.models import Cache, CachedRepo, CacheEvent, CacheSnapshot
from cachemgr.units import format_bytes


class LookOnlyAdmin(ModelAdmin):
    """Rows that the monitor writes: nobody edits a measurement."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Cache)
class CacheAdmin(LookOnlyAdmin):
    list_display = ("location", "path", "limit", "filesystem", "speed", "is_configured", "uuid")

    @display(description="Limit", ordering="limit_bytes")
    def limit(self, obj: Cache) -> str:
        return "its disk" if obj.limit_bytes is None else format_bytes(obj.limit_bytes)

    @display(description="Reads", ordering="read_bytes_per_second")
    def speed(self, obj: Cache) -> str:
        return "" if obj.read_bytes_per_second is None else f"{format_bytes(obj.read_bytes_per_second)}/s"


@admin.register(CachedRepo)
class CachedRepoAdmin(LookOnlyAdmin):
    list_display = ("repo_id", "repo_type", "cache", "size", "unfinished", "seen_at")
    list_filter = ("repo_type", "cache__location")
    list_select_related = ("cache",)
    search_fields = ("repo_id",)

    @display(description="Size", ordering="size_bytes")
    def size(self, obj: CachedRepo) -> str:
        return format_bytes(obj.size_bytes)

    @display(description="Unfinished", ordering="partial_bytes")
    def unfinished(self, obj: CachedRepo) -> str:
        return format_bytes(obj.partial_bytes) if obj.partial_bytes else ""


@admin.register(CacheSnapshot)
class CacheSnapshotAdmin(LookOnlyAdmin):
    list_display = ("taken_at", "cache", "state", "used", "free", "duration_seconds")
    list_filter = ("cache__location", "state")
    list_select_related = ("cache",)

    @display(description="Used", ordering="used_bytes")
    def used(self, obj: CacheSnapshot) -> str:
        return format_bytes(obj.used_bytes)

    @display(description="Disk free", ordering="disk_free_bytes")
    def free(self, obj: CacheSnapshot) -> str:
        return format_bytes(obj.disk_free_bytes)


@admin.register(CacheEvent)
class CacheEventAdmin(LookOnlyAdmin):
    list_display = ("happened_at", "cache", "message", "kind", "sent_at")
    list_filter = ("kind", "cache__location")
    list_select_related = ("cache",)
    search_fields = ("message",)
