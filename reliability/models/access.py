"""API keys, and the audit log of what operators did."""

import hashlib
import hmac
import secrets
from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from .fields import SlugTextField
from .ids import uuid7

# Characters of a key that are stored in plain text and shown: `bsk_` and eight more, which find the row.
PREFIX_LENGTH = 12


class KeyScope(models.TextChoices):
    """The scopes of an API key."""

    READ = "read", "Read"
    DELIVER = "deliver", "Deliver"
    REPORT = "report", "Report"
    OPERATE = "operate", "Operate"


def make_key() -> str:
    """Return a new key: 256 random bits behind a prefix that secret scanners can find."""
    return f"bsk_{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    """Return the hex SHA-256 of a key."""
    # A fast hash is enough: nobody can guess 256 random bits, and each request pays for it.
    return hashlib.sha256(key.encode()).hexdigest()


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def active(self, *, now: datetime) -> "ApiKeyQuerySet":
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)


class ApiKey(models.Model):
    """A caller's key, stored as a hash. Without a tenant it is for all tenants; without scopes, for everything."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.TextField()
    prefix = models.TextField(unique=True, editable=False)
    hash = models.TextField(editable=False)
    tenant = SlugTextField(null=True, blank=True)
    scopes = ArrayField(models.TextField(choices=KeyScope.choices), default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        verbose_name = "API key"
        permissions = [("revoke_apikey", "Can revoke API keys")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @classmethod
    def issue(cls, *, name: str, tenant: str | None = None, scopes: list[str] | None = None) -> "tuple[ApiKey, str]":
        """Create a key; return it and its plain text, which is not stored."""
        key = cls(name=name, tenant=tenant, scopes=scopes or [])
        plain = key.set_secret()
        key.full_clean()
        key.save()
        return key, plain

    def set_secret(self) -> str:
        """Generate the secret of a key that is not saved yet; return its plain text."""
        plain = make_key()
        self.prefix, self.hash = plain[:PREFIX_LENGTH], hash_key(plain)
        return plain

    def matches(self, plain: str) -> bool:
        """Return whether `plain` is this key. Compares in constant time."""
        return hmac.compare_digest(self.hash, hash_key(plain))

    def allows(self, scope: str) -> bool:
        return not self.scopes or scope in self.scopes


class AuditEntry(models.Model):
    """One action of an operator, an API key or a command: who, when, what, on which row, why, how many. Append-only."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_index=True)
    actor = models.TextField()
    action = models.TextField()
    target_type = models.TextField(blank=True, default="")
    target_id = models.TextField(blank=True, default="")
    reason = models.TextField(blank=True, default="")
    count = models.IntegerField(default=1)
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=("target_type", "target_id"), name="audit_by_target"),
            models.Index(F("target_id"), F("id").desc(), name="audit_by_target_alone"),
            models.Index(F("actor"), F("id").desc(), name="audit_by_actor"),
            models.Index(F("action"), F("id").desc(), name="audit_by_action"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target_type}"
