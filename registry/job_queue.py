"""The queue of long work: the database is the queue, and a message to a worker is a wake-up only."""

from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.utils import timezone

from cachemgr.history import KEPT_FOR
from cachemgr.models import Cache, TrashedRepo
from registry import leases


class JobQuerySet(models.QuerySet["Job"]):
    def update(self, **values: Any) -> int:
        """Whatever changes a row says when: readers that follow jobs go by it."""
        return super().update(**({"updated_at": timezone.now()} | values))

    def open(self) -> Self:
        return self.filter(state__in=Job.OPEN)

    def due(self) -> Self:
        """Oldest first."""
        return self.filter(state=Job.State.QUEUED, not_before__lte=timezone.now()).order_by("pk")

    def running(self) -> Self:
        return self.filter(state=Job.State.RUNNING)

    def ended(self) -> Self:
        return self.exclude(state__in=Job.OPEN)

    def naming(self, text: str) -> Self:
        """Those with it in the name of their model, now or when they began, or of its repo."""
        of_model = Q(model_name__icontains=text) | Q(model__model_name__icontains=text)
        return self.filter(of_model | Q(hf_path__icontains=text))

    def for_display(self) -> Self:
        return self.select_related("model", "source", "target", "trashed")

    def outdated(self) -> Self:
        """Ended so long ago that nobody needs them as history."""
        return self.ended().filter(finished_at__lt=timezone.now() - KEPT_FOR)

    def ask_to_end(self) -> int:
        """Whoever runs them hears of it; those that wait are due, to clean up."""
        return self.update(cancel_requested=True, not_before=timezone.now())

    def abandoned(self) -> "list[Job]":
        """Running, but nobody holds them any more."""
        return [job for job in self.running() if not job.is_held]


class Job(models.Model):
    """One row for one long piece of work. A worker claims it with a conditional UPDATE and holds a lease. Afterwards it
    is history, also of a model that is gone.

    queued --claim--> running --> done
     ^  ^                |------> cancelled
     |  '--- pause ------|------> failed
     '------ retry ------------------'
    """

    class Kind(models.TextChoices):
        DOWNLOAD = "download"
        MOVE = "move"
        VERIFY = "verify"
        REPAIR = "repair"
        REMOVE = "remove"

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    OPEN = (State.QUEUED, State.RUNNING)
    MAX_ATTEMPTS = 5
    FROM_HUB = frozenset({Kind.DOWNLOAD, Kind.REPAIR})

    kind = models.CharField(max_length=16, choices=Kind)
    model = models.ForeignKey(
        "registry.ModelRegistry", null=True, blank=True, on_delete=models.SET_NULL, related_name="jobs"
    )
    model_name = models.CharField(max_length=96, help_text="Of its model when it was asked for.")
    hf_path = models.CharField("Hub repo", max_length=200, help_text="Whose folder it works in.")
    source = models.ForeignKey(Cache, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    target = models.ForeignKey(Cache, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    trashed = models.ForeignKey(TrashedRepo, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    options = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    stage = models.CharField(max_length=32, blank=True, help_text="What it does now: planning, downloading, verifying.")
    committed = models.BooleanField(default=False, help_text="The registry names the new place; the rest is tidying.")
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(default=0)
    rate = models.BigIntegerField("bytes per second", default=0)
    attempt = models.IntegerField(default=0)
    not_before = models.DateTimeField(default=timezone.now)
    cancel_requested = models.BooleanField(default=False)
    pair = models.CharField(max_length=64, blank=True, help_text="The drives that it keeps busy, as last claimed.")
    pair_slot = models.PositiveSmallIntegerField(default=0)
    lease_owner = models.CharField(max_length=255, blank=True)
    lease_beat_at = models.FloatField(default=0, help_text="By the monotonic clock of the owner's host.")
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["state"])]
        constraints = [
            models.UniqueConstraint(
                fields=["model"], condition=Q(state__in=["queued", "running"]), name="one_open_job_per_model"
            ),
            models.UniqueConstraint(
                fields=["pair", "pair_slot"], condition=Q(state="running") & ~Q(pair=""), name="one_job_per_pair_slot"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.title} ({self.state})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self._state.adding:
            self.pair = self.drive_pair
        if self._state.adding and self.model is not None:
            self.model_name, self.hf_path = self.model.model_name, self.model.hf_path
        super().save(*args, **kwargs)

    @property
    def title(self) -> str:
        """What the user calls its model, or called it when it was removed."""
        return self.model_name if self.model is None else self.model.model_name

    @property
    def trash(self) -> int | None:
        """The number of the entry that a removal made, as long as it can come back from the trash."""
        is_there = self.trashed is not None and self.trashed.state in TrashedRepo.THERE
        return self.trashed_id if is_there else None

    @property
    def kept(self) -> list[str]:
        """What a move left at its source, as paths in the repo's folder: files that are not what was moved."""
        return list(self.options.get("kept", []))

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN

    @property
    def percent(self) -> float:
        if self.state == self.State.DONE:
            return 100.0
        return min(100.0, round(self.bytes_done / self.bytes_total * 100, 1)) if self.bytes_total else 0.0

    @property
    def eta_seconds(self) -> int | None:
        left = self.bytes_total - self.bytes_done
        return round(left / self.rate) if self.rate > 0 and self.state == self.State.RUNNING else None

    @property
    def is_held(self) -> bool:
        lease = leases.Lease(self.lease_owner, self.lease_beat_at, self.lease_expires_at)
        return self.state == self.State.RUNNING and lease.is_held(now=timezone.now())

    @property
    def drive_pair(self) -> str:
        """The drives that it keeps busy, in either direction; "" where none is known. Filesystems, not caches: two
        caches can share a disk."""
        drives = {_drive_of(cache) for cache in (self.source, self.target) if cache is not None}
        return "+".join(sorted(drives | {"hub"} if self.kind in self.FROM_HUB else drives))

    @property
    def shall_end(self) -> bool:
        """Somebody wants it cancelled, and there still is a way back."""
        return self.cancel_requested and not self.committed

    def claim(self) -> bool:
        """True for the one worker that may run it now, while its drives have a slot for it. One that only has to clean
        up waits for no drive."""
        pair = "" if self.shall_end else self.drive_pair
        others = Job.objects.running().filter(pair=pair).exclude(pair="")
        taken = set(others.values_list("pair_slot", flat=True))
        free = sorted(set(range(settings.JOBS_PER_DRIVE_PAIR)) - taken)
        is_claimed = any(self._start(pair, slot=slot) for slot in free)
        self.refresh_from_db()
        return is_claimed

    def _start(self, pair: str, *, slot: int) -> bool:
        """The database gives a slot to one of those who see it free at the same time."""
        place = {"pair": pair, "pair_slot": slot, "attempt": F("attempt") + 1, "started_at": timezone.now()}
        fresh = {"state": self.State.RUNNING, "error_code": "", "error_message": ""}
        try:
            with transaction.atomic():
                return Job.objects.due().filter(pk=self.pk).update(**place, **fresh, **_fresh_lease()) == 1
        except IntegrityError:
            return False

    def take_unbegun(self) -> bool:
        """Takes a job that no worker ever began, to end it: nothing of it is on any drive."""
        unbegun = Job.objects.filter(pk=self.pk, state=self.State.QUEUED, started_at=None)
        return self._take(unbegun, state=self.State.RUNNING, pair="")

    def take_over(self) -> bool:
        """Takes the lease of an owner that is gone. False: somebody else did, or the owner came back to life."""
        lost = Job.objects.running().filter(pk=self.pk, lease_owner=self.lease_owner, lease_beat_at=self.lease_beat_at)
        return self._take(lost)

    def _take(self, rows: JobQuerySet, **values: Any) -> bool:
        is_taken = rows.update(**values, **_fresh_lease()) == 1
        self.refresh_from_db()
        return is_taken

    def _ours(self) -> JobQuerySet:
        """The row, while it is ours. The attempt tells it from one that another thread of ours claimed since."""
        return Job.objects.running().filter(pk=self.pk, lease_owner=leases.own_name(), attempt=self.attempt)

    def renew(self, **progress: Any) -> bool:
        """Renews the lease and stores progress. False: the job is not ours any more."""
        return self._ours().update(**_fresh_lease(), **progress) == 1

    def kept_alive(self) -> AbstractContextManager[None]:
        """While the block works on it, its lease is renewed, if it is still ours."""
        ours = self._ours()
        return leases.beating(lambda: ours.update(**_fresh_lease()) == 1)

    def beat(self, **progress: Any) -> bool:
        """`renew`, and False also when it shall be cancelled."""
        return self.renew(**progress) and not self._ours().filter(cancel_requested=True, committed=False).exists()

    def commit(self) -> bool:
        """The moment after which there is no way back. False: a cancel came before it, or it is not ours any more."""
        self.committed = self._ours().filter(cancel_requested=False).update(committed=True) == 1
        return self.committed

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

    def hand_back(self, *, pause: timedelta = timedelta(0), error_code: str = "", error_message: str = "") -> bool:
        """Queues it again because its worker stops or its drive is away: that costs it no attempt."""
        return self._leave(
            state=self.State.QUEUED,
            not_before=timezone.now() + pause,
            attempt=F("attempt") - 1,
            error_code=error_code,
            error_message=error_message,
        )

    def _leave(self, **values: Any) -> bool:
        is_left = self._ours().update(lease_owner="", lease_expires_at=None, rate=0, **values) == 1
        self.refresh_from_db()
        return is_left


def _fresh_lease() -> dict[str, Any]:
    lease = leases.fresh(now=timezone.now())
    return {"lease_owner": lease.owner, "lease_beat_at": lease.beat_at, "lease_expires_at": lease.expires_at}


def _drive_of(cache: Cache) -> str:
    device = cache.latest.device if cache.latest else None
    return f"cache {cache.pk}" if device is None else f"drive {device}"
