"""The admin of models and jobs: doors to the services. Every change of state is a POST."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, Prefetch, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from cachemgr.templatetags.units import when
from cachemgr.units import format_bytes
from homelab.errors import HomelabError
from registry import act_plans, changes, jobs, serving
from registry.act_admin import ActingAdmin
from registry.act_page import with_sentence
from registry.forms import RegisterModelForm
from registry.job_words import facts_of
from registry.models import Job, ModelRegistry
from registry.statuses import chip_of

_JOB_COLORS = {"queued": "info", "running": "warning", "done": "success", "failed": "danger", "cancelled": "info"}
_REPO = ("hf_path", "model_name")
_SETTINGS = ("estimated_size_mb", "wanted_revision", "pinned", "download")
_PLACE = ("cache_location", "cache_path", "pinned")
_NEXT_LOAD = "A model that is in memory keeps what it was loaded with: a change counts from its next load."


@admin.register(ModelRegistry)
class ModelRegistryAdmin(ActingAdmin):
    """Registering is an add form; what can be done to models are acts, which show their plan first."""

    list_display: tuple[str, ...] = ("model_name", "hf_path", "location", "size", "state", "last_used", "pin")
    list_filter = ("cache_location", "status", "pinned")
    search_fields = ("model_name", "hf_path")
    list_per_page = 25
    conditional_fields = {"cache_path": "cache_location == 'custom'"}
    actions_list = ("register_new_model",)
    change_form_outer_before_template = "registry/live.html"
    list_before_template = "registry/live.html"

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        if obj is None:
            places = ("cache_location", "cache_path")
            return [(None, {"fields": _REPO}), ("Where", {"fields": places}), ("More", {"fields": _SETTINGS})]
        return [
            ("Settings", {"fields": _PLACE}),
            ("Serving", {"fields": serving.COLUMNS, "description": _NEXT_LOAD}),
        ]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002  (Django's)
        if obj is None:
            kwargs["form"] = RegisterModelForm
            kwargs["fields"] = RegisterModelForm.Meta.fields
        return super().get_form(request, obj, change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: Any) -> None:
        if change:
            return self._change(request, obj)
        assert isinstance(form, RegisterModelForm)
        registration = form.proposal.execute()
        obj.pk = registration.model.pk
        obj.refresh_from_db()
        for notice in registration.notices:
            messages.warning(request, notice.message)
        if form.cleaned_data["download"]:
            with_sentence(request, lambda: act_plans.download().do(obj), done=str)

    def _change(self, request: HttpRequest, obj: ModelRegistry) -> None:
        """Another place begins a move: the row itself says where the files are, until they are elsewhere."""
        wanted = {name: getattr(obj, name) for name in (*_PLACE, *serving.COLUMNS)}
        obj.refresh_from_db()
        is_served_anew = any(getattr(obj, name) != wanted[name] for name in serving.COLUMNS)
        job = changes.change(obj, wanted)
        if job is not None:
            messages.success(request, changes.describe(obj, job))
        if is_served_anew:
            messages.info(request, _NEXT_LOAD)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Whatever refuses at the last moment (others were faster) is a sentence on the page."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except HomelabError as error:
            messages.error(request, error.message)
            return redirect(request.get_full_path())

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        return super().add_view(request, form_url, {"title": "Register New Model", **(extra_context or {})})

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        response = super().response_add(request, obj, post_url_continue)
        is_plain = "_addanother" not in request.POST and "_continue" not in request.POST
        return redirect("admin:registry_modelregistry_change", obj.pk) if is_plain else response

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # removing is an act that asks about the files: see remove_selected

    @action(description="Register New Model", icon="add", url_path="register", permissions=["add"])
    def register_new_model(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:registry_modelregistry_add")

    # Columns

    @display(description="Drive", ordering="cache_location")
    def location(self, obj: ModelRegistry) -> str:
        return obj.cache_location

    @display(description="Size", ordering="model_size_mb")
    def size(self, obj: ModelRegistry) -> str:
        return format_bytes(obj.size_bytes) if obj.size_bytes is not None else "unknown"

    @display(description="State", ordering="status")
    def state(self, obj: ModelRegistry) -> SafeString:
        """With the bar of its open work, if there is some."""
        job = next((job for job in obj.jobs.all() if job.is_open), None)
        return format_html("{}{}", chip_of(obj), progress_bar(job) if job else "")

    @display(description="Last use", ordering="last_used_at")
    def last_used(self, obj: ModelRegistry) -> str:
        return when(obj.last_used_at)

    @display(description="Pinned", ordering="pinned")
    def pin(self, obj: ModelRegistry) -> SafeString | str:
        return (
            format_html('<span class="material-symbols-outlined" title="pinned">{}</span>', "keep")
            if obj.pinned
            else ""
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        models: QuerySet[Any] = super().get_queryset(request)
        return models.prefetch_related(Prefetch("jobs", Job.objects.open()))


@admin.register(Job)
class JobAdmin(ModelAdmin):
    """Work that runs, waits, or is over. Live where it runs."""

    list_display = ("title", "kind", "drives", "state_label", "progress", "attempt", "created_at", "error_message")
    list_filter = ("state", "kind")
    list_select_related = ("model", "source", "target")
    list_before_template = "registry/live.html"
    actions = ("cancel_selected", "retry_selected")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.method == "POST" and obj is None  # the list's actions; a row is read-only

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_staff)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("registry.change_modelregistry"))

    @admin.action(description="Cancel", permissions=["steer"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        for job in queryset:
            with_sentence(request, lambda job=job: jobs.cancel_job(job), done=f"The {job.kind} of {job.title} ends.")

    @admin.action(description="Try again", permissions=["steer"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        for job in queryset:
            with_sentence(
                request, lambda job=job: jobs.retry_job(job), done=f"The {job.kind} of {job.title} is queued again."
            )

    @display(description="Model", ordering="model_name")
    def title(self, obj: Job) -> str:
        return obj.title

    @display(description="Drives")
    def drives(self, obj: Job) -> str:
        return " → ".join(cache.path for cache in (obj.source, obj.target) if cache)

    @display(description="State", ordering="state", label=_JOB_COLORS)
    def state_label(self, obj: Job) -> str:
        return obj.state

    @display(description="Progress")
    def progress(self, obj: Job) -> SafeString:
        return progress_bar(obj)


def progress_bar(job: Job) -> SafeString:
    """A bar that live.js keeps up to date while the job is open."""
    return format_html(
        '<div class="hl-job" data-job="{}" data-open="{}">'
        '<progress class="hl-progress" max="100" value="{}"></progress><span class="hl-job-text">{}</span></div>',
        job.pk,
        str(job.is_open).lower(),
        job.percent,
        facts_of(job),
    )
