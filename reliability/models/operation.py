"""Bulk operations over dead letters: a fixed filter, and the progress."""

from dataclasses import dataclass

from django.db import models
from django.db.models import Q, Sum, Value

from .ids import uuid7
from .workflow import Lane


class OperationKind(models.TextChoices):
    """What a bulk operation does to each match."""

    REPLAY = "replay", "Bulk replay"
    PURGE = "purge", "Bulk purge"
    RESTORE = "restore", "Undo of a bulk purge"


class OperationState(models.TextChoices):
    """The state of an operation; the last three are final."""

    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    DONE = "done", "Done"
    CANCELLED = "cancelled", "Cancelled"
    STOPPED = "stopped", "Stopped"


@dataclass(frozen=True, slots=True)
class Ends:
    """How an operation's replays ended; withdrawn ones were cancelled before they were sent."""

    recovered: int = 0
    failed: int = 0
    withdrawn: int = 0

    @property
    def total(self) -> int:
        return self.recovered + self.failed + self.withdrawn


class Operation(models.Model):
    """A bulk replay or purge, or the undoing of a purge. Filter and cut-off time are fixed when it is submitted.

    `cursor` is the last dead letter handled, in the order of ids, so that a restart continues behind it. `done` counts
    those acted on, `skipped_by` the others by cause; `tallies` count how the replays ended. With `canary` one is sent
    first, and the rest once it has recovered. A failure rate above `stop_failure_rate` (0 to 1) stops the operation,
    and `note` says so. While it runs, `next_at` is when its next step is due; `None` while it only waits for replays.
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
        permissions = [("control_operation", "Can pause, resume, cancel and change the rate of bulk operations")]
        constraints = [
            models.CheckConstraint(condition=Q(rate_per_second__gt=0), name="operation_rate_positive"),
            models.CheckConstraint(
                condition=Q(stop_failure_rate__isnull=True) | Q(stop_failure_rate__range=(0.0, 1.0)),
                name="operation_stop_rate_is_a_share",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def ends(self) -> Ends:
        """How its replays have ended so far."""
        names = ("recovered", "failed", "withdrawn")
        counted = self.tallies.aggregate(**{name: Sum(name, default=0) for name in names})
        return Ends(**counted)

    @property
    def recovered(self) -> int:
        return self.ends.recovered

    @property
    def failed(self) -> int:
        return self.ends.failed

    @property
    def in_flight(self) -> int:
        """How many replays are queued or in flight."""
        return max(0, self.done - self.ends.total) if self.kind == OperationKind.REPLAY else 0


class OperationTally(models.Model):
    """How an operation's replays in one lane ended. Written by triggers, in the transactions that end the replays."""

    id = models.BigAutoField(primary_key=True)
    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="tallies", db_index=False)
    lane = models.ForeignKey(Lane, on_delete=models.CASCADE, related_name="+", db_index=False)
    recovered = models.IntegerField(default=0, db_default=0)
    failed = models.IntegerField(default=0, db_default=0)
    withdrawn = models.IntegerField(default=0, db_default=0)

    class Meta:
        ordering = ("id",)
        constraints = [models.UniqueConstraint(fields=("operation", "lane"), name="operation_tally_once")]

    def __str__(self) -> str:
        return f"{self.operation_id} in {self.lane_id}"
