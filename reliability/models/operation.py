"""Bulk operations over dead letters: a frozen filter, and how far the engine has come with it."""

from django.db import models
from django.db.models import Q, Value

from .ids import uuid7


class OperationKind(models.TextChoices):
    """What is done to each match."""

    REPLAY = "replay"
    PURGE = "purge"


class OperationState(models.TextChoices):
    """How an operation stands; the last three are final."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    STOPPED = "stopped"


class Operation(models.Model):
    """A bulk replay or purge. The filter and the cut-off are frozen when it is submitted.

    `cursor` is the last dead letter handled, in the order of ids, so that a restart goes on behind it. `done` counts
    those acted on, `recovered` and `failed` how the replays among them ended; `skipped_by` counts the others by cause.
    With `canary` one goes first, and the rest once it has recovered; more than `stop_failure_rate` (0 to 1) failing
    again stops it, and `note` says so.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.TextField(choices=OperationKind.choices)
    state = models.TextField(choices=OperationState.choices, default=OperationState.RUNNING)
    filter = models.JSONField(default=dict)
    cutoff = models.DateTimeField()
    rate_per_second = models.FloatField(default=5.0)
    matched = models.IntegerField(default=0)
    done = models.IntegerField(default=0)
    skipped = models.IntegerField(default=0)
    skipped_by = models.JSONField(default=dict, blank=True, db_default=Value({}, models.JSONField()))
    recovered = models.IntegerField(default=0, db_default=0)
    failed = models.IntegerField(default=0, db_default=0)
    canary = models.BooleanField(default=False, db_default=False)
    canary_letter = models.UUIDField(null=True, blank=True)
    stop_failure_rate = models.FloatField(null=True, blank=True)
    note = models.TextField(blank=True, default="", db_default="")
    cursor = models.UUIDField(null=True, blank=True)
    actor = models.TextField()
    reason = models.TextField(blank=True, default="")
    created_at = models.DateTimeField()
    next_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        permissions = [("control_operation", "Can pause, go on with, cancel and slow down bulk operations")]
        constraints = [
            models.CheckConstraint(condition=Q(rate_per_second__gt=0), name="operation_rate_positive"),
            models.CheckConstraint(
                condition=Q(stop_failure_rate__isnull=True) | Q(stop_failure_rate__range=(0.0, 1.0)),
                name="operation_stop_rate_is_a_share",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"
