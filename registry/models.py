"""The registry's memory: which models we offer, where they live, and the work that is done on them."""

import os
import socket
from datetime import timedelta
from typing import Any, Self

import psutil
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from cachemgr.models import Cache
from cachemgr.units import MB

NAME_RULE = (
    "A name begins with a letter or digit and goes on with up to 95 letters, digits, dots, colons, _ or -; "
    "'estimate' is taken."
)
NAME_PATTERN = r"^(?!estimate$)[A-Za-z0-9][A-Za-z0-9._:-]{0,95}\Z"


class ModelQuerySet(models.QuerySet["ModelRegistry"]):
    def named(self, name: str) -> "ModelRegistry | None":
        """By `model_name`, else by `hf_path` while only one row has it."""
        found = self.filter(model_name=name).first()
        if found is None:
            aliases = list(self.filter(hf_path=name)[:2])
            found = aliases[0] if len(aliases) == 1 else None
        return found

    def in_cache(self, cache: Cache) -> Self:
        """Rows whose location means this cache. For primary and secondary the location decides, not `cache_path`."""
        if cache.location == Cache.Location.CUSTOM:
            return self.filter(cache_location=cache.location, cache_path__in=[cache.path, cache.path + "/"])
        return self.filter(cache_location=cache.location) if cache.is_configured else self.none()

    def servable(self) -> Self:
        return self.filter(status__in=[ModelRegistry.Status.READY, ModelRegistry.Status.MOVING])


class ModelRegistry(models.Model):
    """A model that we offer. The table and the first five columns carry the names of the user's guide: its SQL works.

    registered --download--> downloading --> ready <--> missing (its drive is away, or its files are)
                                  '--------> failed --download--> downloading
    """

    class Status(models.TextChoices):
        REGISTERED = "registered"
        DOWNLOADING = "downloading"
        READY = "ready"
        MOVING = "moving"
        MISSING = "missing"
        FAILED = "failed"

    model_name = models.CharField(
        max_length=96,
        unique=True,
        validators=[RegexValidator(NAME_PATTERN, NAME_RULE, code="invalid_name")],
        help_text="What clients put into the field “model”.",
    )
    hf_path = models.CharField("Hub repo", max_length=200, help_text="org/name on the Hub, or name alone as in gpt2.")
    cache_location = models.CharField(max_length=16, choices=Cache.Location, default=Cache.Location.PRIMARY)
    cache_path = models.CharField(
        max_length=1024, null=True, blank=True, help_text="For a custom path: an absolute folder."
    )
    model_size_mb = models.FloatField(null=True, blank=True, help_text="Measured, else the estimate.")
    estimated_size_mb = models.FloatField(null=True, blank=True, validators=[MinValueValidator(0.001)])
    status = models.CharField(max_length=16, choices=Status, default=Status.REGISTERED)
    error = models.TextField(blank=True, help_text="Why it failed or is missing.")
    revision = models.CharField(max_length=40, blank=True, help_text="The commit that is downloaded.")
    wanted_revision = models.CharField(max_length=100, default="main")
    pinned = models.BooleanField(default=False, help_text="Never unloaded or moved by itself.")
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    use_count = models.BigIntegerField(default=0)

    objects = ModelQuerySet.as_manager()

    class Meta:
        db_table = "modelregistry"
        ordering = ["model_name"]
        verbose_name = "model"
        indexes = [models.Index(fields=["hf_path"])]

    def __str__(self) -> str:
        return self.model_name

    @property
    def owner_key(self) -> str:
        """Its name in the cache manager's reservations."""
        return f"model:{self.pk}"

    @property
    def size_bytes(self) -> int | None:
        return None if self.model_size_mb is None else round(self.model_size_mb * MB)

    @property
    def context_length(self) -> int | None:
        length = self.metadata.get("max_position_embeddings")
        return length if isinstance(length, int) else None

    def mark(self, status: "ModelRegistry.Status", *, error: str = "", **values: Any) -> None:
        """Writes the state alone, so that nobody's change to another column is lost."""
        changed = {"status": status, "error": error} | values
        for name, value in changed.items():
            setattr(self, name, value)
        type(self).objects.filter(pk=self.pk).update(**changed)


class JobQuerySet(models.QuerySet["Job"]):
    def open(self) -> Self:
        return self.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING])

    def due(self) -> Self:
        return self.filter(state=Job.State.QUEUED, not_before__lte=timezone.now())

    def abandoned(self) -> Self:
        """Running, but nobody holds them: the lease ran out, or its process on this host is dead."""
        running = self.filter(state=Job.State.RUNNING)
        dead = [job.pk for job in running if not lease_is_alive(job.lease_owner)]
        return running.filter(Q(lease_expires_at__lt=timezone.now()) | Q(pk__in=dead))


class Job(models.Model):
    """One row for one long piece of work. A worker claims it with a conditional UPDATE and holds a lease.

    queued --claim--> running --> done
       ^                 |------> failed
       '---- retry ------'------> cancelled
    """

    class Kind(models.TextChoices):
        DOWNLOAD = "download"

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    MAX_ATTEMPTS = 5
    LEASE = timedelta(seconds=60)

    kind = models.CharField(max_length=16, choices=Kind)
    model = models.ForeignKey(ModelRegistry, on_delete=models.CASCADE, related_name="jobs")
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    stage = models.CharField(max_length=32, blank=True, help_text="What it does now: planning, downloading, verifying.")
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(default=0)
    rate = models.BigIntegerField("bytes per second", default=0)
    attempt = models.IntegerField(default=0)
    not_before = models.DateTimeField(default=timezone.now)
    cancel_requested = models.BooleanField(default=False)
    lease_owner = models.CharField(max_length=255, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["model"], condition=Q(state__in=["queued", "running"]), name="one_open_job_per_model"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.model} ({self.state})"

    @property
    def is_open(self) -> bool:
        return self.state in {self.State.QUEUED, self.State.RUNNING}

    @property
    def percent(self) -> float:
        if self.state == self.State.DONE:
            return 100.0
        return min(100.0, round(self.bytes_done / self.bytes_total * 100, 1)) if self.bytes_total else 0.0

    @property
    def eta_seconds(self) -> int | None:
        left = self.bytes_total - self.bytes_done
        return round(left / self.rate) if self.rate > 0 and self.state == self.State.RUNNING else None

    def claim(self) -> bool:
        """True for the one worker that may run it now."""
        now = timezone.now()
        taken = (
            Job.objects.due()
            .filter(pk=self.pk)
            .update(
                state=self.State.RUNNING,
                lease_owner=own_lease_name(),
                lease_expires_at=now + self.LEASE,
                attempt=F("attempt") + 1,
                started_at=now,
                error_code="",
                error_message="",
            )
        )
        self.refresh_from_db()
        return taken == 1

    def beat(self, **progress: Any) -> bool:
        """Renews the lease and stores progress. False: the job is not ours any more, or shall be cancelled."""
        ours = Job.objects.filter(pk=self.pk, state=self.State.RUNNING, lease_owner=own_lease_name())
        renewed = ours.update(lease_expires_at=timezone.now() + self.LEASE, **progress)
        return renewed == 1 and not ours.filter(cancel_requested=True).exists()

    def close(self, state: "Job.State", *, error_code: str = "", error_message: str = "") -> bool:
        """Ends it, if it is still ours."""
        return self._leave(state=state, finished_at=timezone.now(), error_code=error_code, error_message=error_message)

    def put_back(self, *, pause: timedelta, error_code: str = "", error_message: str = "") -> bool:
        """Queues it again, for after the pause."""
        return self._leave(
            state=self.State.QUEUED,
            not_before=timezone.now() + pause,
            error_code=error_code,
            error_message=error_message,
        )

    def _leave(self, **values: Any) -> bool:
        ours = Job.objects.filter(pk=self.pk, state=self.State.RUNNING, lease_owner=own_lease_name())
        left = ours.update(lease_owner="", lease_expires_at=None, rate=0, **values)
        self.refresh_from_db()
        return left == 1


def own_lease_name() -> str:
    """host:pid:start time. A process number alone can be taken by another process."""
    process = psutil.Process(os.getpid())
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def lease_is_alive(owner: str) -> bool:
    """False when the owner's process on this host is gone. Another host's is only known by its lease."""
    host, pid, started = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except psutil.NoSuchProcess:
        return False
