"""API keys: of a key only its hash and its prefix are kept."""

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from rest_framework_api_key.models import AbstractAPIKey, BaseAPIKeyManager


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self) -> "ApiKeyQuerySet":
        return self.filter(Q(expiry_date=None) | Q(expiry_date__gt=timezone.now()), revoked=False)


class ApiKeyManager(BaseAPIKeyManager.from_queryset(ApiKeyQuerySet)):  # type: ignore[misc]
    def assign_key(self, obj: "ApiKey") -> str:
        """The library puts the hash into the primary key, and so into the admin's URLs; here it stays in its column."""
        key, obj.prefix, obj.hashed_key = self.key_generator.generate()
        return str(key)


class ApiKey(AbstractAPIKey):
    """Lets a program elsewhere in. `made -> revoked`, and never back; or it expires."""

    class Scope(models.TextChoices):
        INFERENCE = "inference", "Inference: ask models, /v1 and GET /api/ps"
        ADMIN = "admin", "Admin: everything, /v1 and /api"

    id = models.BigAutoField(primary_key=True)  # type: ignore[assignment]
    scope = models.CharField(max_length=9, choices=Scope.choices)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyManager()  # type: ignore[misc]

    class Meta(AbstractAPIKey.Meta):
        verbose_name = "API key"
        verbose_name_plural = "API keys"

    def clean(self) -> None:
        super().clean()
        if self._state.adding and self.has_expired:
            raise ValidationError({"expiry_date": "This moment has passed. Choose one to come, or none at all."})

    @property
    def state(self) -> str:
        """valid, expired or revoked."""
        if self.revoked:
            return "revoked"
        return "expired" if self.has_expired else "valid"
