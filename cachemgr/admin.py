"""The admin of caches: what was found and measured, to look at; and the trash."""

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.decorators import display

from cachemgr import trash
from cachemgr.models import Cache, CachedRepo, CacheEvent, CacheSnapshot, TrashedRepo
from cachemgr.units import format_bytes
from homelab.admin import LookOnlyAdmin
from homelab.errors import HomelabError


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


@admin.register(TrashedRepo)
class TrashedRepoAdmin(LookOnlyAdmin):
    """Removed models that can come back: two actions, and the one that cannot be undone asks."""

    list_display = ("title", "cache", "size", "frees", "removed_at", "goes_at", "state")
    list_filter = ("cache__location",)
    list_select_related = ("cache",)
    search_fields = ("title", "folder")
    actions = ("restore_selected", "empty_selected")

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrashedRepo]:
        known: QuerySet[TrashedRepo] = super().get_queryset(request)
        return known.exclude(state=TrashedRepo.State.EMPTIED)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.method == "POST" and obj is None  # the list's actions; a row is read-only

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_staff)

    def has_restore_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cachemgr.change_trashedrepo"))

    def has_empty_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cachemgr.delete_trashedrepo"))

    @admin.action(description="Restore", permissions=["restore"])
    def restore_selected(self, request: HttpRequest, queryset: QuerySet[TrashedRepo]) -> None:
        for entry in queryset.select_related("cache"):
            try:
                trash.restore(entry)
            except HomelabError as error:
                messages.error(request, error.message)
            else:
                messages.success(request, f"{entry.title} is back in {entry.cache.path}.")

    @admin.action(description="Remove for good (asks first)", permissions=["empty"])
    def empty_selected(self, request: HttpRequest, queryset: QuerySet[TrashedRepo]) -> HttpResponse | None:
        try:
            loads = trash.weigh_entries(queryset.select_related("cache"))
            if "sure" in request.POST:
                messages.success(request, f"{format_bytes(trash.empty(loads))} are free again.")
                return None
        except HomelabError as error:
            messages.error(request, error.message)
            return None
        freed_bytes = sum(load.weight.freed_bytes for load in loads)
        asked = {"title": "Empty the trash", "loads": loads, "freed_bytes": freed_bytes}
        return TemplateResponse(request, "cachemgr/empty_trash.html", self.admin_site.each_context(request) | asked)

    @display(description="Size", ordering="size_bytes")
    def size(self, obj: TrashedRepo) -> str:
        return format_bytes(obj.size_bytes)

    @display(description="Frees when emptied", ordering="freed_bytes")
    def frees(self, obj: TrashedRepo) -> str:
        return format_bytes(obj.freed_bytes)
