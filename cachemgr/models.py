"""What is remembered of caches: the rows, what each measurement found, and what is promised."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from cachemgr.layout import TRASH, repo_folder
from cachemgr.space import USUAL_FILES


class CacheQuerySet(models.QuerySet["Cache"]):
    def listed(self) -> Self:
        """Configured caches, and others as long as something is known to live there; each with its latest snapshot."""
        repos = CachedRepo.objects.filter(cache=models.OuterRef("pk"))
        promises = Reservation.objects.filter(cache=models.OuterRef("pk"))
        trashed = TrashedRepo.objects.filter(cache=models.OuterRef("pk"))
        lives_there = models.Exists(repos) | models.Exists(promises) | models.Exists(trashed)
        custom = models.Q(location=Cache.Location.CUSTOM)
        kept = self.filter(models.Q(is_configured=True) | custom | lives_there)
        return kept.select_related("latest").order_by("pk")


class Cache(models.Model):
    """A directory that holds Hub repos. `primary` and `secondary` follow `.env`; a custom path makes its own row."""

    class Location(models.TextChoices):
        PRIMARY = "primary", "Primary (Fast SSD)"
        SECONDARY = "secondary", "Secondary (Slower Drive)"
        CUSTOM = "custom", "Custom Path"

    location = models.CharField(max_length=16, choices=Location)
    path = models.CharField(max_length=1024, unique=True)
    limit_bytes = models.BigIntegerField(
        null=True, blank=True, help_text="Empty for a custom cache: its disk is its limit."
    )
    is_configured = models.BooleanField(default=False, help_text="Named by .env at the last start.")
    uuid = models.CharField(max_length=36, blank=True, help_text="The marker that the adopted drive carries.")
    latest = models.OneToOneField(
        "CacheSnapshot",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="The last measurement, whatever the clock did since.",
    )

    # What its drive is
    filesystem = models.CharField(max_length=32, blank=True, help_text="Such as ext4, or cifs.")
    mount_point = models.CharField(max_length=1024, blank=True)
    takes_links = models.BooleanField(null=True, blank=True, help_text="Symbolic links; empty until tried.")
    read_bytes_per_second = models.BigIntegerField(null=True, blank=True, help_text="Measured once, by reading.")
    speed_measured_at = models.DateTimeField(null=True, blank=True)

    # What the last scan found beside the repos
    foreign = models.JSONField(default=list, blank=True)
    scan_problems = models.JSONField(default=list, blank=True)
    scan_distrust = models.TextField(blank=True, help_text="Why each scan reads everything; empty where it need not.")
    full_scan_at = models.DateTimeField(null=True, blank=True)
    io_mark = models.TextField(blank=True, help_text="What its disks had read and written after the last scan.")

    # What was told as an event, see events.py
    announced_level = models.CharField(max_length=16, blank=True)
    announced_state = models.CharField(max_length=16, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CacheQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.location}: {self.path}"

    def home_of(self, repo_id: str) -> Path:
        """The folder of a model's repo in it."""
        return Path(self.path) / repo_folder(repo_id)


class CacheSnapshot(models.Model):
    """One measurement, at most one a cache and slot. Where a drive could not be read, the sizes are the last good
    ones, and `figures_at` says from when."""

    cache = models.ForeignKey(Cache, on_delete=models.CASCADE, related_name="snapshots")
    slot = models.BigIntegerField(help_text="The number of the monitor's interval since 1970.")
    taken_at = models.DateTimeField(default=timezone.now)
    figures_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=16)
    message = models.TextField(blank=True)
    used_bytes = models.BigIntegerField(default=0)
    physical_bytes = models.BigIntegerField(default=0)
    foreign_bytes = models.BigIntegerField(default=0, help_text="Of it, what belongs to no repo and not to us.")
    disk_total_bytes = models.BigIntegerField(default=0)
    disk_used_bytes = models.BigIntegerField(default=0)
    disk_free_bytes = models.BigIntegerField(default=0)
    inodes_free = models.BigIntegerField(null=True, blank=True)
    device = models.BigIntegerField(null=True, blank=True, help_text="Tells filesystems apart.")
    host_device = models.BigIntegerField(
        null=True, blank=True, help_text="Of a disk image with holes: the filesystem that it lies on, and fills."
    )
    host_free_bytes = models.BigIntegerField(null=True, blank=True)
    model_count = models.IntegerField(default=0)
    duration_seconds = models.FloatField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["cache", "slot"], name="one_snapshot_per_cache_and_slot")]
        indexes = [models.Index(fields=["cache", "-taken_at"])]
        get_latest_by = "taken_at"
        ordering = ["-taken_at"]

    def __str__(self) -> str:
        return f"{self.cache} at {self.taken_at:%Y-%m-%d %H:%M}"

    @property
    def began_at(self) -> datetime:
        """When the drive was asked: what it says may have changed since."""
        return self.taken_at - timedelta(seconds=self.duration_seconds)

    @property
    def age(self) -> timedelta:
        """Of the figures, never negative: clocks step."""
        return max(timedelta(0), timezone.now() - (self.figures_at or self.taken_at))


class CachedRepo(models.Model):
    """A repo as the last scan of its cache found it. `revisions` is a list of RevisionReport as dicts."""

    cache = models.ForeignKey(Cache, on_delete=models.CASCADE, related_name="repos")
    folder = models.CharField(max_length=255)
    repo_type = models.CharField(max_length=16)
    repo_id = models.CharField(max_length=200)
    size_bytes = models.BigIntegerField()
    physical_bytes = models.BigIntegerField(default=0)
    file_count = models.IntegerField(default=0)
    partial_bytes = models.BigIntegerField(default=0)
    partials = models.JSONField(default=list, help_text="A list of Partial as dicts.")
    orphan_count = models.IntegerField(default=0)
    orphan_bytes = models.BigIntegerField(default=0)
    layout = models.CharField(max_length=16, blank=True)
    modified_at = models.DateTimeField(null=True, blank=True)
    memory = models.JSONField(default=dict, help_text="What a re-scan compares before it reads the repo again.")
    revisions = models.JSONField(default=list)
    problems = models.JSONField(default=list)
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["cache", "folder"], name="one_row_per_repo_folder")]
        ordering = ["repo_id"]

    def __str__(self) -> str:
        return f"{self.repo_id} on {self.cache.location}"


class CacheEvent(models.Model):
    """Something about a cache that its owner wants to hear of, once: a level crossed, a drive gone or back."""

    class Kind(models.TextChoices):
        LEVEL = "level", "Usage level"
        STATE = "state", "State of the drive"

    cache = models.ForeignKey(Cache, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=16, choices=Kind)
    before = models.CharField(max_length=16, blank=True)
    after = models.CharField(max_length=16)
    message = models.TextField()
    happened_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True, help_text="When the webhook took it.")
    attempts = models.IntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["-happened_at"])]
        ordering = ["-happened_at", "-pk"]

    def __str__(self) -> str:
        return self.message


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def total_bytes(self) -> int:
        return self.aggregate(total=models.Sum("remaining_bytes"))["total"] or 0


class Reservation(models.Model):
    """Bytes and files promised to an owner (a key such as `model:7`) for one repo folder.

    What has landed is what a scan saw: the scan's transaction stores the new usage and the new remainder together, so
    used plus reserved stays the same while a download runs, and no byte is ever counted twice or not at all.

    The inodes of its files stay promised until it ends, also those of files that have landed: files come in any order,
    each with a lock and a link of its own, so what is still to come of them cannot be told from their bytes.
    """

    cache = models.ForeignKey(Cache, on_delete=models.CASCADE, related_name="reservations")
    owner = models.CharField(max_length=64, unique=True)
    folder = models.CharField(max_length=255)
    total_bytes = models.BigIntegerField()
    baseline_bytes = models.BigIntegerField(default=0, help_text="What lay in the folder when the bytes were booked.")
    remaining_bytes = models.BigIntegerField()
    file_count = models.IntegerField(default=USUAL_FILES, help_text="Of what was still to come when it was booked.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ReservationQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.owner}: {self.remaining_bytes} bytes on {self.cache.location}"

    def shrink_to(self, *, folder_bytes: int) -> None:
        landed = max(0, folder_bytes - self.baseline_bytes)
        self.remaining_bytes = max(0, self.total_bytes - landed)


class TrashedRepoQuerySet(models.QuerySet["TrashedRepo"]):
    def gone_since(self, moment: datetime, *, cache: Cache) -> set[str]:
        """Folders that left their place for the trash then, or later: a scan that began before may have seen them in
        it."""
        return set(self.filter(cache=cache, removed_at__gte=moment).values_list("folder", flat=True))


class TrashedRepo(models.Model):
    """A repo's folder in the trash of its cache: `<cache>/.homelab/trash/<name>/<folder>`.

    leaving --> trashed --> purging --> emptied --> (no row, a day later)
       |          ^ |
       |          | '--> restoring --> (no row)
       v          '--------'
    (no row: it never left)

    The row comes before what happens on the drive, and tells after a crash what was wanted; the drive tells how far it
    came.
    """

    class State(models.TextChoices):
        LEAVING = "leaving"
        TRASHED = "trashed"
        RESTORING = "restoring"
        PURGING = "purging"
        EMPTIED = "emptied"

    THERE = (State.TRASHED, State.RESTORING)
    """What can come back. The second where its drive went away, until it is back or asked again."""

    cache = models.ForeignKey(Cache, on_delete=models.CASCADE, related_name="trashed")
    name = models.CharField(max_length=64, help_text="Of its own folder in the trash.")
    folder = models.CharField(max_length=255)
    title = models.CharField(max_length=200, help_text="What the user called it.")
    state = models.CharField(max_length=16, choices=State, default=State.LEAVING)
    file_count = models.IntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    freed_bytes = models.BigIntegerField(
        default=0, help_text="What the disk gets back when it is emptied, as it was weighed when it left."
    )
    remembered = models.JSONField(default=dict, blank=True, help_text="What the registry needs to take it back.")
    removed_at = models.DateTimeField(default=timezone.now)

    objects = TrashedRepoQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["cache", "name"], name="one_row_per_name_in_the_trash")]
        ordering = ["removed_at", "pk"]
        verbose_name = "removed repo"

    def __str__(self) -> str:
        return f"{self.title} in the trash of {self.cache.location}"

    @property
    def holder(self) -> str:
        """Where it lies now, below the cache."""
        return f"{TRASH}/{self.name}/{self.folder}"

    @property
    def goes_at(self) -> datetime:
        """From then on it is emptied by itself."""
        return self.removed_at + timedelta(days=settings.TRASH_DAYS)
