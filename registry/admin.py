"""The admin of models and jobs: doors to the services. Every change of state is a POST."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from cachemgr.models import Cache
from cachemgr.units import format_bytes
from homelab.admin import AuditedAdmin
from homelab.errors import HomelabError
from registry import changes, checkups, jobs, remote_code, removal_page, services, serving
from registry.forms import RegisterModelForm
from registry.job_words import facts_of
from registry.models import Job, ModelRegistry

_MODEL_COLORS = {
    "registered": "info",
    "downloading": "warning",
    "moving": "warning",
    "ready": "success",
    "missing": "danger",
    "failed": "danger",
}
_JOB_COLORS = {"queued": "info", "running": "warning", "done": "success", "failed": "danger", "cancelled": "info"}
_FORM = (
    "model_name",
    "hf_path",
    "cache_location",
    "cache_path",
    "estimated_size_mb",
    "wanted_revision",
    "pinned",
    "download",
)
_PLACE = ("cache_location", "cache_path", "pinned")
_NEXT_LOAD = "A model that is in memory keeps what it was loaded with: a change counts from its next load."
_FACTS_OF_FILES = ("place", "size", "revision", "reading")
_FACTS = ("model_name", "hf_path", "status", "progress", "error", *_FACTS_OF_FILES, "code", "use", "created_at")


@admin.register(ModelRegistry)
class ModelRegistryAdmin(AuditedAdmin):
    """Registering is an add form; a registered model is a page of facts with buttons."""

    list_display: tuple[str, ...] = ("model_name", "hf_path", "location", "size", "state", "progress", "last_used_at")
    list_filter = ("cache_location", "status", "pinned")
    search_fields = ("model_name", "hf_path")
    list_per_page = 50
    conditional_fields = {"cache_path": "cache_location == 'custom'"}
    actions: tuple[str, ...] = (
        "download_selected",
        "move_to_primary",
        "move_to_secondary",
        "verify_selected",
        "remove_selected",
    )
    actions_list = ("register_new_model",)
    actions_submit_line: tuple[str, ...] = ("download_now", "verify_now", "repair_now")
    change_form_outer_before_template = "registry/live.html"
    list_before_template = "registry/live.html"

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        if obj is None:
            return [(None, {"fields": _FORM})]
        return [
            (None, {"fields": _FACTS}),
            ("Settings", {"fields": _PLACE}),
            ("Serving", {"fields": serving.COLUMNS, "description": _NEXT_LOAD}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return () if obj is None else _FACTS

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002  (Django's)
        if obj is None:
            kwargs["form"] = RegisterModelForm
            kwargs["fields"] = RegisterModelForm.Meta.fields
        return super().get_form(request, obj, change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: Any) -> None:
        if change:
            self._change(request, obj)
            return self._run_submit_line(request, obj)
        assert isinstance(form, RegisterModelForm)
        registration = form.proposal.execute()
        obj.pk = registration.model.pk
        obj.refresh_from_db()
        for notice in registration.notices:
            messages.warning(request, notice.message)
        if form.cleaned_data["download"]:
            self._download(request, obj)

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

    def _run_submit_line(self, request: HttpRequest, obj: ModelRegistry) -> None:
        """When the page's own transaction is over: while a button's work waits for a drive, others can write."""
        for each in self.get_actions_submit_line(request, str(obj.pk)):
            if each.action_name in request.POST:
                transaction.on_commit(partial(each.method, request, obj))

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
        return False  # removing is an action that asks about the files: see remove_selected

    @action(description="Register New Model", icon="add", url_path="register")
    def register_new_model(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:registry_modelregistry_add")

    @action(description="Download", icon="download")
    def download_now(self, request: HttpRequest, obj: ModelRegistry) -> None:
        self._download(request, obj)

    @action(description="Verify", icon="fact_check")
    def verify_now(self, request: HttpRequest, obj: ModelRegistry) -> None:
        with_sentence(request, lambda: checkups.request_verify(obj), done=f"All files of {obj} are read again.")

    @action(description="Repair", icon="build")
    def repair_now(self, request: HttpRequest, obj: ModelRegistry) -> None:
        done = f"What is bad or missing of {obj} is fetched."
        with_sentence(request, lambda: checkups.request_repair(obj), done=done)

    @admin.action(description="Move to the primary cache")
    def move_to_primary(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        self._move(request, queryset, location=Cache.Location.PRIMARY)

    @admin.action(description="Move to the secondary cache")
    def move_to_secondary(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        self._move(request, queryset, location=Cache.Location.SECONDARY)

    def _move(self, request: HttpRequest, queryset: QuerySet[ModelRegistry], *, location: str) -> None:
        for model in queryset:
            with_sentence(
                request,
                lambda model=model: changes.change(model, {"cache_location": location}),
                done=partial(changes.describe, model),
            )

    @admin.action(description="Verify: read all files again")
    def verify_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        for model in queryset:
            self.verify_now(request, model)

    @admin.action(description="Download")
    def download_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        for model in queryset:
            self._download(request, model)

    @admin.action(description="Remove (asks what becomes of the files)")
    def remove_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> HttpResponse | None:
        context = self.admin_site.each_context(request)
        return removal_page.ask_or_remove(request, list(queryset), context=context)

    def _download(self, request: HttpRequest, model: ModelRegistry) -> None:
        with_sentence(request, lambda: services.request_download(model), done=f"The download of {model} is queued.")

    @display(description="Cache", ordering="cache_location")
    def location(self, obj: ModelRegistry) -> str:
        return obj.cache_location

    @display(description="Lives in")
    def place(self, obj: ModelRegistry) -> str:
        return f"{obj.get_cache_location_display()}: {services.cache_path_of(obj)}"

    @display(description="Size", ordering="model_size_mb")
    def size(self, obj: ModelRegistry) -> str:
        return format_bytes(obj.size_bytes) if obj.size_bytes is not None else "unknown"

    @display(description="Read again")
    def reading(self, obj: ModelRegistry) -> str:
        return checkups.describe_reading(obj)

    @display(description="Code")
    def code(self, obj: ModelRegistry) -> str:
        return remote_code.describe(obj)

    @display(description="State", ordering="status", label=_MODEL_COLORS)
    def state(self, obj: ModelRegistry) -> str:
        return obj.status

    @display(description="Used")
    def use(self, obj: ModelRegistry) -> str:
        if obj.last_used_at is None:
            return "never"
        times = "once" if obj.use_count == 1 else f"{obj.use_count} times"
        return f"{times}, last on {obj.last_used_at:%Y-%m-%d %H:%M} UTC"

    @display(description="Work")
    def progress(self, obj: ModelRegistry) -> SafeString | str:
        job = obj.jobs.first()
        return progress_bar(job) if job and job.is_open else "none"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        models: QuerySet[Any] = super().get_queryset(request)
        return models.prefetch_related("jobs")


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

    @admin.action(description="Cancel", permissions=["view"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        for job in queryset:
            with_sentence(request, lambda job=job: jobs.cancel_job(job), done=f"The {job.kind} of {job.title} ends.")

    @admin.action(description="Try again", permissions=["view"])
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


def with_sentence(request: HttpRequest, work: Any, *, done: str | Callable[[Any], str]) -> None:
    """Does it and says so, or says why not. `done` is a sentence, or makes one of what came of it."""
    try:
        result = work()
    except HomelabError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, done if isinstance(done, str) else done(result))
