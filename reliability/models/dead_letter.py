"""Dead letters: the entries of the dead-letter queue."""

import json
from typing import Any

from django.db import models
from django.db.models import F, Q

from reliability.policies.error_codes import reason_of
from reliability.policies.fingerprint import fingerprint_of

from .archive import Archive
from .delivery import Delivery
from .ids import uuid7
from .operation import Operation
from .workflow import Lane


class DeadLetterStatus(models.TextChoices):
    """The status of an entry: dead until an operator acts, or its TTL ends."""

    DEAD = "dead", "Dead"
    REPLAYING = "replaying", "Replaying"
    RECOVERED = "recovered", "Recovered"
    PURGED = "purged", "Purged"
    ARCHIVED = "archived", "Archived"


class DeadLetterSource(models.TextChoices):
    """Who reported that it failed for good."""

    DELIVERY = "delivery", "Delivery"
    N8N = "n8n", "Reported by n8n"
    API = "api", "Reported through the API"


def error_fields(*, code: str, message: str) -> dict[str, str]:
    """Return the columns of an error: code, message, and the reason and fingerprint computed from them."""
    return {
        "error_code": code,
        "error_message": message,
        "reason": str(reason_of(code=code)),
        "fingerprint": fingerprint_of(code=code, message=message),
    }


class DeadLetterQuerySet(models.QuerySet["DeadLetter"]):
    def dead(self) -> "DeadLetterQuerySet":
        return self.filter(status=DeadLetterStatus.DEAD)


class DeadLetter(models.Model):
    """A delivery, or an execution that n8n reported, that failed for good, with its payload.

    Always write the error with `error_fields`, which computes `reason` and `fingerprint`. A purge can be undone until
    `erase_at`; then the payload is erased. `purged_by` is the last operation that purged it, also after it was undone.
    The payload of an archived one is in the file of `archive`, and not here.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="dead_letters", db_index=False)
    delivery = models.ForeignKey(
        Delivery, on_delete=models.PROTECT, null=True, blank=True, related_name="dead_letters", db_index=False
    )
    source = models.TextField(choices=DeadLetterSource.choices)
    status = models.TextField(choices=DeadLetterStatus.choices, default=DeadLetterStatus.DEAD)
    payload = models.TextField()
    error_code = models.TextField(blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    reason = models.TextField(blank=True, default="", db_default="")
    fingerprint = models.TextField(blank=True, default="", db_default="")
    retry_count = models.IntegerField(default=0)
    execution_id = models.TextField(blank=True, default="")
    execution_url = models.TextField(blank=True, default="")
    created_at = models.DateTimeField()
    died_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    erase_at = models.DateTimeField(null=True, blank=True)
    purged_by = models.ForeignKey(
        Operation,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="purged",
        db_index=False,
        db_constraint=False,
    )
    archive = models.ForeignKey(
        Archive,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="dead_letters",
        db_index=False,
        db_constraint=False,
    )

    objects = DeadLetterQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        permissions = [
            ("replay_deadletter", "Can replay dead letters"),
            ("edit_deadletter", "Can edit a payload and replay it"),
            ("purge_deadletter", "Can purge dead letters"),
            ("export_deadletter", "Can export dead letters"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=DeadLetterStatus.values), name="dead_letter_status_known"),
            # One failure is one dead letter, however often and by whom it is reported.
            models.UniqueConstraint(
                fields=("delivery",), condition=Q(delivery__isnull=False), name="dead_letter_one_per_delivery"
            ),
        ]
        indexes = [
            models.Index(F("status"), F("id").desc(), name="dead_letter_by_status"),
            models.Index(F("lane"), F("status"), F("id").desc(), name="dead_letter_by_lane"),
            models.Index(F("error_code"), F("id").desc(), name="dead_letter_by_code"),
            models.Index(F("fingerprint"), F("status"), F("id").desc(), include=("lane",), name="dead_letter_by_print"),
            models.Index(F("reason"), F("status"), F("id").desc(), include=("lane",), name="dead_letter_by_reason"),
            models.Index(F("source"), F("status"), F("id").desc(), name="dead_letter_by_source"),
            models.Index(F("execution_id"), name="dead_letter_by_execution", condition=~Q(execution_id="")),
            models.Index(F("expires_at"), name="dead_letter_expiring", condition=Q(status="dead")),
            models.Index(F("erase_at"), name="dead_letter_to_erase", condition=Q(erase_at__isnull=False)),
            models.Index(F("purged_by"), F("id"), name="dead_letter_purged_by", condition=Q(purged_by__isnull=False)),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def document(self) -> Any:
        """The payload as Python values; `None` after it was erased."""
        return json.loads(self.payload) if self.payload else None
