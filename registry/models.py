"""The registry's memory: which models we offer, where they live, and (in job_queue) the work that is done on them."""

from datetime import datetime
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F

from cachemgr.models import Cache
from cachemgr.units import MB
from homelab.durations import parse_duration
from registry import serving
from registry.job_queue import Job
from registry.serving import ServingSettings

__all__ = ["Job", "ModelRegistry"]

NAME_RULE = (
    "A name begins with a letter or digit and goes on with up to 95 letters, digits, dots, colons, _ or -; "
    "'estimate' is taken."
)
NAME_PATTERN = r"^(?!estimate$)[A-Za-z0-9][A-Za-z0-9._:-]{0,95}\Z"
REVISION_RULE = "A revision is a branch, a tag or a commit: letters, digits, dots, slashes, _ and -."
REVISION_PATTERN = r"^(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,98}\Z"


def validate_keep_alive(text: str) -> None:
    if not serving.is_keep_alive(text):
        raise ValidationError(f"Wanted is {serving.WANTED['keep_alive']}.", code="invalid_keep_alive")


def _between(limits: tuple[int, int]) -> list[Any]:
    return [MinValueValidator(limits[0]), MaxValueValidator(limits[1])]


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

    def add_uses(self, count: int, *, last_at: datetime, prompt_tokens: int, completion_tokens: int) -> None:
        """Counts requests, for placement and clean-up: the access times of files tell nothing."""
        self.update(
            use_count=F("use_count") + count,
            last_used_at=last_at,
            prompt_tokens=F("prompt_tokens") + prompt_tokens,
            completion_tokens=F("completion_tokens") + completion_tokens,
        )

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
    prompt_tokens = models.BigIntegerField(default=0, help_text="All that it has read.")
    completion_tokens = models.BigIntegerField(default=0, help_text="All that it has written.")

    # How it is served, see serving.py
    dtype = models.CharField(
        "Precision",
        max_length=16,
        choices=serving.DTYPES,
        default="auto",
        help_text="How exact its numbers are. 16 bit takes half the memory of 32 bit. Automatic is right for most.",
    )
    device = models.CharField(
        "Runs on",
        max_length=16,
        choices=serving.DEVICES,
        default="auto",
        help_text="Automatic takes a GPU where it fits, else the processor.",
    )
    quantization = models.CharField(
        "Quantization",
        max_length=16,
        choices=serving.QUANTIZATIONS,
        default="",
        blank=True,
        help_text="Rounded weights take a half (8 bit) or a quarter (4 bit) of the memory, and answer a little worse. "
        "It needs a GPU.",
    )
    context_limit = models.PositiveIntegerField(
        "Context length",
        null=True,
        blank=True,
        validators=_between(serving.CONTEXT_TOKENS),
        help_text="Tokens of a chat, question and answer together. Fewer take less memory. "
        "Empty: as many as the model can, if the memory allows it.",
    )
    parallel_requests = models.PositiveIntegerField(
        "Requests at a time",
        null=True,
        blank=True,
        validators=_between(serving.PARALLEL_REQUESTS),
        help_text="How many are answered together; others wait. Each takes memory for its context. "
        "Empty: the server decides.",
    )
    keep_alive = models.CharField(
        "Stays in memory for",
        max_length=16,
        default="",
        blank=True,
        validators=[validate_keep_alive],
        help_text="After its last request: 30s, 10m, 2h; 0 leaves at once, -1 never. Empty: as KEEP_ALIVE says.",
    )
    priority = models.SmallIntegerField(
        default=0,
        validators=_between(serving.PRIORITIES),
        help_text="When memory is short, models with a lower number leave first. Most have 0.",
    )
    preload = models.BooleanField(
        "Load at start", default=False, help_text="In memory before anybody asks, as soon as the server runs."
    )
    downloads_on_request = models.BooleanField(
        "Download when asked",
        default=False,
        help_text="A chat with it may begin its download where its files are on no drive. Otherwise it is refused.",
    )

    # What reading its files again found, see checkups.py
    read_at = models.DateTimeField(
        null=True, blank=True, help_text="When all its bytes were last read, and none was bad."
    )
    verified_at = models.DateTimeField(
        null=True, blank=True, help_text="When all its bytes were last read, and compared with what they have to be."
    )
    verified_up_to = models.TextField(blank=True, help_text="The file where the next reading goes on.")
    unproven = models.JSONField(
        default=list, blank=True, help_text="Files that were read, but nobody knows their checksums."
    )
    damaged = models.JSONField(default=list, blank=True, help_text="Files that are bad: no engine loads them.")

    # The code of its repo that its engine may run, see remote_code.py
    remote_code = models.JSONField(default=dict, blank=True, editable=False, help_text="One commit, and its files.")

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

    @property
    def serving_settings(self) -> ServingSettings:
        return ServingSettings(
            dtype=self.dtype,
            device=self.device,
            quantization=self.quantization,
            context_length=self.context_limit,
            parallel_requests=self.parallel_requests,
            keep_alive_seconds=parse_duration(self.keep_alive),
            priority=self.priority,
            preload=self.preload,
            downloads_on_request=self.downloads_on_request,
        )

    def code_of(self, commit: str) -> dict[str, str]:
        """The files that may be run of a commit, with their hashes; mostly none."""
        return self.remote_code.get("files", {}) if self.remote_code.get("commit") == commit else {}

    def mark(self, status: "ModelRegistry.Status", *, error: str = "", **values: Any) -> None:
        """Writes the state alone, so that nobody's change to another column is lost."""
        changed = {"status": status, "error": error} | values
        for name, value in changed.items():
            setattr(self, name, value)
        type(self).objects.filter(pk=self.pk).update(**changed)
