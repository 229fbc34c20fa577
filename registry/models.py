"""The registry's memory: which models we offer, where they live, and (in job_queue) the work that is done on them."""

from typing import Any, Self

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models

from cachemgr.models import Cache
from cachemgr.units import MB
from registry.job_queue import Job

__all__ = ["Job", "ModelRegistry"]

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
        """Rows whose location means this cache. For primary and secondary the location decides, not `cache_path`; a
        custom path may be one that `.env` names, or named once."""
        by_path = models.Q(cache_location=Cache.Location.CUSTOM, cache_path__in=[cache.path, cache.path + "/"])
        by_name = models.Q(cache_location=cache.location) if cache.is_configured else models.Q(pk__in=[])
        return self.filter(by_path | by_name)

    def in_folder(self, cache: Cache, hf_path: str) -> Self:
        """Rows that share their files: those of one repo in that cache."""
        return self.in_cache(cache).filter(hf_path=hf_path)

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

    # What reading its files again found, see checkups.py
    verified_at = models.DateTimeField(null=True, blank=True, help_text="When all its bytes were last read and right.")
    verified_up_to = models.CharField(max_length=255, blank=True, help_text="The file where the next reading goes on.")
    damaged = models.JSONField(default=list, blank=True, help_text="Files that are bad: no engine loads them.")

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
