"""Deliveries and their attempts."""

import hashlib
import json
from typing import Any

from django.db import models
from django.db.models import F, Func, Q, TextField, Value
from django.db.models.functions import Coalesce

from reliability.formats.canonical_json import canonical

from .ids import uuid7
from .operation import Operation
from .workflow import Lane


class DeliveryState(models.TextChoices):
    """The state of a delivery; the last four are final."""

    PENDING = "pending", "Pending"
    SENDING = "sending", "Sending"
    AWAITING_CALLBACK = "awaiting_callback", "Awaiting callback"
    DELIVERED = "delivered", "Delivered"
    DEAD = "dead", "Dead"
    CANCELLED = "cancelled", "Cancelled"
    SKIPPED = "skipped", "Skipped"


class Source(models.TextChoices):
    """What triggered a delivery."""

    API = "api", "API"
    CRON = "cron", "Cron job"
    STRIPE = "stripe", "Stripe"
    REPLAY = "replay", "Replay"


IN_FLIGHT = (DeliveryState.SENDING, DeliveryState.AWAITING_CALLBACK)
FINAL = (DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.CANCELLED, DeliveryState.SKIPPED)


def digest_of(document: Any) -> bytes:
    """Return the SHA-256 of a JSON document's value, independent of key order, white space and spelling."""
    return hashlib.sha256(canonical(document).encode()).digest()


def _setting(name: str) -> Coalesce:
    """Return the value that the current statement has set under `name`, or an empty text."""
    return Coalesce(Func(Value(name), Value(True), function="current_setting"), Value(""), output_field=TextField())


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def pending(self) -> "DeliveryQuerySet":
        return self.filter(state=DeliveryState.PENDING)

    def in_flight(self) -> "DeliveryQuerySet":
        return self.filter(state__in=IN_FLIGHT)


class Delivery(models.Model):
    """One payload to send to one workflow for one tenant, with one idempotency key.

    `payload` is the sender's own JSON text, so that n8n receives it unchanged. `attempt_count` counts every attempt;
    `retries_used` only those that count towards the policy's `max_retries` (none for an n8n that is down or an
    unpublished workflow). `lease_until` ends a worker's claim while sending, and the wait for a report while awaiting
    one. `reported` is what n8n reported about the current attempt before its reply was settled. `request_id` is the id
    of the request that made the delivery, empty if that is the delivery's own id (`request`); `traceparent` is the
    request's place in a trace. The inserting statement sets both (`sql/set_request_context.sql`). `refused_at` is when
    a gateway first refused this delivery. While `waits_for` names an earlier delivery, this one is held, whatever its
    `due_at`; a trigger releases it when that one ends.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    idempotency_key = models.TextField()
    payload = models.TextField()
    payload_digest = models.BinaryField(max_length=32, editable=False)
    state = models.TextField(choices=DeliveryState.choices, default=DeliveryState.PENDING)
    source = models.TextField(choices=Source.choices, default=Source.API)
    attempt_count = models.IntegerField(default=0)
    retries_used = models.IntegerField(default=0)
    due_at = models.DateTimeField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    lease_token = models.UUIDField(null=True, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    last_error = models.TextField(blank=True, default="")
    stale = models.BooleanField(default=False, db_default=False)
    request_id = models.TextField(blank=True, default="", db_default=_setting("backstop.request_id"))
    traceparent = models.TextField(blank=True, default="", db_default=_setting("backstop.traceparent"))
    refused_at = models.DateTimeField(null=True, blank=True, editable=False)
    waits_for = models.UUIDField(null=True, blank=True, editable=False)
    reported = models.JSONField(null=True, blank=True, editable=False)
    replay_of = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="replays", db_index=False
    )
    dead_letter = models.ForeignKey(
        "DeadLetter",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="replays",
        db_index=False,
        help_text="The dead letter that this delivery replays.",
    )
    operation = models.ForeignKey(
        Operation,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="deliveries",
        db_index=False,
        db_constraint=False,
        help_text="The bulk operation that this replay belongs to.",
    )

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "deliveries"
        permissions = [
            ("cancel_delivery", "Can cancel deliveries"),
            ("send_now_delivery", "Can send deliveries now"),
        ]
        constraints = [
            # One key, one delivery. A replay carries the key of the first delivery, so it is excepted.
            models.UniqueConstraint(
                fields=("lane", "idempotency_key"),
                condition=~Q(source="replay"),
                name="delivery_one_per_key",
            ),
            models.CheckConstraint(condition=Q(state__in=DeliveryState.values), name="delivery_state_known"),
            # A delivery that is being sent without a lease would never be taken back from a dead worker.
            models.CheckConstraint(
                condition=Q(state=DeliveryState.SENDING, lease_token__isnull=False, lease_until__isnull=False)
                | ~Q(state=DeliveryState.SENDING),
                name="delivery_sending_has_a_lease",
            ),
        ]
        # Partial wherever a query asks for a few of many rows: most deliveries are delivered, and each index costs
        # writes.
        indexes = [
            models.Index(F("lane"), F("due_at"), name="delivery_due", condition=Q(state="pending")),
            models.Index(F("lane"), F("lease_until"), name="delivery_in_flight", condition=Q(state__in=IN_FLIGHT)),
            models.Index(
                F("lane"),
                F("expires_at"),
                name="delivery_expiring",
                condition=Q(state="pending", expires_at__isnull=False),
            ),
            models.Index(F("lane"), F("id").desc(), name="delivery_by_lane"),
            models.Index(
                F("state"),
                F("id").desc(),
                name="delivery_by_state",
                condition=~Q(state="delivered"),
            ),
            models.Index(F("request_id"), F("id").desc(), name="delivery_by_request", condition=~Q(request_id="")),
            models.Index(F("waits_for"), name="delivery_held", condition=Q(waits_for__isnull=False)),
            models.Index(F("replay_of"), name="delivery_replays", condition=Q(replay_of__isnull=False)),
            models.Index(F("source"), F("id").desc(), name="delivery_by_source", condition=~Q(source="api")),
            models.Index(F("dead_letter"), name="delivery_of_dead_letter", condition=Q(dead_letter__isnull=False)),
            models.Index(
                F("operation"),
                F("state"),
                F("id").desc(),
                name="delivery_of_operation",
                condition=Q(operation__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def request(self) -> str:
        """The id of the request that made it."""
        return self.request_id or str(self.id)

    @property
    def document(self) -> Any:
        """The payload as Python values; `None` after it was erased."""
        return json.loads(self.payload) if self.payload else None


class AttemptResult(models.TextChoices):
    """The result of an attempt: the outcomes of the classification, and failures without a reply."""

    DELIVERED = "delivered", "Delivered"
    INSTANCE_DOWN = "instance_down", "n8n unavailable"
    TRANSIENT = "transient", "Temporary failure"
    UNKNOWN = "unknown", "Unknown outcome"
    MISCONFIGURED = "misconfigured", "Misconfigured route"
    MISCONFIGURED_LOCALLY = "misconfigured_locally", "Misconfigured in Backstop"
    REFUSED = "refused", "Refused by a gateway"
    REJECTED = "rejected", "Rejected by the workflow"
    INTERRUPTED = "interrupted", "Worker lost"
    CALLBACK_TIMEOUT = "callback_timeout", "Callback timeout"
    REPORTED_FAILED = "reported_failed", "Reported as failed"


class Attempt(models.Model):
    """One HTTP request of a delivery, with the reply. Append-only."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    number = models.IntegerField()
    result = models.TextField(choices=AttemptResult.choices)
    code = models.TextField(blank=True, default="")
    error = models.TextField(blank=True, default="")
    status_code = models.IntegerField(null=True, blank=True)
    started_at = models.DateTimeField()
    duration_ms = models.IntegerField()
    response_headers = models.JSONField(default=dict, blank=True)
    response_body = models.TextField(blank=True, default="")
    probe = models.BooleanField(default=False)
    worker = models.TextField(blank=True, default="")

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=("delivery", "number", "result"), name="attempt_once_per_result"),
        ]
        indexes = [
            models.Index(
                F("result"), F("id").desc(), name="attempt_by_result", condition=~Q(result=AttemptResult.DELIVERED)
            ),
            models.Index(F("id").desc(), name="attempt_probes", condition=Q(probe=True)),
        ]

    def __str__(self) -> str:
        return f"{self.delivery_id} #{self.number}"
