"""Bulk operations over dead letters: a frozen filter, and how far the engine has come with it."""

from django.db import models
from django.db.models import Q

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

    `cursor` is the last dead letter handled, in the order of ids, so that a restart goes on behind it.
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
    cursor = models.UUIDField(null=True, blank=True)
    actor = models.TextField()
    reason = models.TextField(blank=True, default="")
    created_at = models.DateTimeField()
    next_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(condition=Q(rate_per_second__gt=0), name="operation_rate_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"
