"""Stripe: endpoints, the ledger of all events, claims, and refused requests."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q

from .fields import EncryptedTextField, SlugTextField
from .ids import uuid7
from .workflow import DEFAULT_TENANT

DEFAULT_ENDPOINT = "default"
EVENT_KEY = ("event_id", "tenant", "account", "livemode")


class StripeMode(models.TextChoices):
    """Which events an endpoint acts on. Others are stored, and sent to no workflow."""

    ANY = "any", "Live and test"
    LIVE = "live", "Live"
    TEST = "test", "Test"


class StripeEndpoint(models.Model):
    """An address that Stripe posts to: `/stripe/webhook/<slug>/`. Its events belong to its tenant."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = SlugTextField(unique=True)
    tenant = SlugTextField(default=DEFAULT_TENANT)
    mode = models.TextField(choices=StripeMode.choices, default=StripeMode.ANY)
    account = models.TextField(
        blank=True, default="", help_text="The Stripe account (acct_…) whose events this endpoint receives. Optional."
    )
    api_key = EncryptedTextField(
        blank=True,
        default="",
        help_text="A restricted key with read access to events, for reconciliation. Stored encrypted.",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("slug",)
        verbose_name = "Stripe endpoint"
        constraints = [
            models.CheckConstraint(condition=Q(mode__in=StripeMode.values), name="stripe_endpoint_mode_known"),
        ]

    def __str__(self) -> str:
        return str(self.slug)


def _sound_secret(value: str) -> None:
    if not (value.startswith("whsec_") and value.isascii() and value.isprintable()):
        raise ValidationError("A Stripe signing secret starts with 'whsec_'.")


class StripeSecret(models.Model):
    """A signing secret of an endpoint. Several can be active at once, for rotation."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.ForeignKey(StripeEndpoint, on_delete=models.CASCADE, related_name="secrets")
    secret = EncryptedTextField(validators=[_sound_secret], help_text="Stored encrypted, never shown again.")
    hint = models.TextField(editable=False, blank=True, default="")
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("-id",)
        verbose_name = "Stripe secret"

    def __str__(self) -> str:
        return f"…{self.hint}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.hint = self.secret[-4:]
        super().save(*args, **kwargs)


class EventSource(models.TextChoices):
    """How an event reached the ledger: sent by Stripe, or fetched by reconciliation."""

    WEBHOOK = "webhook", "Webhook"
    RECONCILED = "reconciled", "Reconciliation"


class Ignored(models.TextChoices):
    """Why an event was stored but sent to no workflow."""

    MODE = "mode", "mode mismatch"
    PING = "ping", "connection test"


class StripeEvent(models.Model):
    """The ledger: one row for each Stripe event ever accepted. Retention erases only the payload.

    `occurred_at` is Stripe's `created` (whole seconds); `object_id` is the object that the event is about. `stale`: a
    newer event about the same object was accepted before. `delivery_ids` are the deliveries it led to.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.ForeignKey(StripeEndpoint, on_delete=models.PROTECT, related_name="events", db_index=False)
    secret = models.ForeignKey(
        StripeSecret, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    tenant = SlugTextField()
    account = models.TextField(blank=True, default="")
    livemode = models.BooleanField()
    event_id = models.TextField()
    type = models.TextField()
    api_version = models.TextField(blank=True, default="")
    object_id = models.TextField(blank=True, default="")
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    source = models.TextField(choices=EventSource.choices, default=EventSource.WEBHOOK)
    stale = models.BooleanField(default=False)
    ignored = models.TextField(choices=Ignored.choices, blank=True, default="")
    delivery_ids = ArrayField(models.UUIDField(), default=list, blank=True)
    payload = models.TextField(blank=True)
    scrubbed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name = "Stripe event"
        constraints = [models.UniqueConstraint(fields=EVENT_KEY, name="stripe_event_once")]
        indexes = [
            models.Index(
                F("object_id"),
                F("tenant"),
                F("occurred_at").desc(),
                name="stripe_event_by_object",
                condition=~Q(object_id=""),
            ),
            models.Index(F("id"), name="stripe_event_unscrubbed", condition=Q(scrubbed_at__isnull=True)),
            models.Index(F("type"), F("id").desc(), name="stripe_event_by_type"),
            models.Index(F("endpoint"), F("id").desc(), name="stripe_event_by_endpoint"),
            models.Index(F("id").desc(), name="stripe_event_test", condition=Q(livemode=False)),
            models.Index(F("id").desc(), name="stripe_event_stale", condition=Q(stale=True)),
            models.Index(F("ignored"), F("id").desc(), name="stripe_event_ignored", condition=~Q(ignored="")),
            models.Index(F("id").desc(), name="stripe_event_reconciled", condition=Q(source="reconciled")),
        ]

    def __str__(self) -> str:
        return self.event_id


class StripeRepeat(models.Model):
    """A repeated arrival of an event that is in the ledger. Append-only."""

    id = models.BigAutoField(primary_key=True)
    event = models.ForeignKey(StripeEvent, on_delete=models.CASCADE, related_name="repeats")
    received_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        verbose_name = "duplicate Stripe event"

    def __str__(self) -> str:
        return f"{self.event_id} again"


class StripeRefusal(models.Model):
    """A refused request: the reason and the address, without its body.

    `count` is 1, except under a flood, where the newest row of the same kind counts further requests.
    """

    id = models.BigAutoField(primary_key=True)
    slug = models.TextField()
    reason = models.TextField()
    address = models.TextField(blank=True, default="")
    count = models.IntegerField(default=1)
    at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        verbose_name = "refused Stripe request"
        indexes = [
            models.Index(F("reason"), F("at").desc(), name="stripe_refusal_by_kind"),
            models.Index(F("slug"), F("at").desc(), name="stripe_refusal_by_slug"),
        ]

    def __str__(self) -> str:
        return f"{self.slug}: {self.reason}"


class ClaimStatus(models.TextChoices):
    """The status of a claim: held under a lease, done, or free to be claimed again."""

    PROCESSING = "processing", "Processing"
    PROCESSED = "processed", "Processed"
    FAILED = "failed", "Failed"


class StripeClaim(models.Model):
    """A lease-based claim of one workflow on an event, for workflows that Stripe calls directly.

    `fencing_token` rises with each claim, so that a holder whose lease has expired cannot complete the next one's
    claim.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = SlugTextField()
    account = models.TextField(blank=True, default="")
    livemode = models.BooleanField(default=True)
    event_id = models.TextField()
    workflow = models.TextField(blank=True, default="")
    status = models.TextField(choices=ClaimStatus.choices, default=ClaimStatus.PROCESSING)
    fencing_token = models.BigIntegerField(default=1)
    lease_until = models.DateTimeField()
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True, default="")
    holder = models.TextField(blank=True, default="")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name = "Stripe claim"
        constraints = [
            models.UniqueConstraint(fields=(*EVENT_KEY, "workflow"), name="stripe_claim_once"),
            models.CheckConstraint(condition=Q(status__in=ClaimStatus.values), name="stripe_claim_status_known"),
        ]
        indexes = [
            models.Index(F("status"), F("id").desc(), name="stripe_claim_open", condition=~Q(status="processed")),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} ({self.status})"
