"""Totals that retention never deletes. The metrics are read from them.

They refer to lanes and workflows without a foreign key, so that totals stay when those are deleted.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from .delivery import AttemptResult

# The positions in `LaneTotal.results`. Stored arrays rely on the order, so new results are added at the end.
RESULTS: tuple[str, ...] = (
    AttemptResult.DELIVERED,
    AttemptResult.INSTANCE_DOWN,
    AttemptResult.TRANSIENT,
    AttemptResult.UNKNOWN,
    AttemptResult.MISCONFIGURED,
    AttemptResult.REJECTED,
    AttemptResult.INTERRUPTED,
    AttemptResult.CALLBACK_TIMEOUT,
    AttemptResult.REPORTED_FAILED,
    AttemptResult.MISCONFIGURED_LOCALLY,
    AttemptResult.REFUSED,
)


class LaneTotal(models.Model):
    """Totals of a lane, written under its lock by the transactions that settle its deliveries (`backstop_add_results`).

    `results` counts attempts by `RESULTS`. `durations` of requests and `latencies` from accepted to delivered are
    counted by `LATENCY_EDGES`, and summed in milliseconds.
    """

    lane_id = models.IntegerField(primary_key=True)
    workflow_id = models.UUIDField()
    delivered = models.BigIntegerField(default=0, db_default=0)
    dead = models.BigIntegerField(default=0, db_default=0)
    retries = models.BigIntegerField(default=0, db_default=0)
    retries_delivered = models.BigIntegerField(default=0, db_default=0)
    results = ArrayField(models.BigIntegerField(), default=list)
    durations = ArrayField(models.BigIntegerField(), default=list)
    duration_ms = models.BigIntegerField(default=0, db_default=0)
    latencies = ArrayField(models.BigIntegerField(), default=list)
    latency_ms = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        ordering = ("lane_id",)

    def __str__(self) -> str:
        return str(self.lane_id)


class TotalName(models.TextChoices):
    """What a `Total` counts; each line says what its key and label are."""

    ENDED = "ended"  # deliveries cancelled or skipped: a workflow, the state
    LETTERS = "letters"  # dead letters that the table holds: a workflow, their status
    DEATHS = "deaths"  # dead letters ever created: a workflow, the reason
    TRANSITIONS = "transitions"  # breaker state changes: a workflow, or empty for the instance; the new state
    EXECUTIONS = "executions"  # executions that n8n reported: a workflow, their status
    STRIPE = "stripe"  # Stripe requests: an endpoint, or empty if it is unknown; the result
    EXPIRED = "expired"  # dead letters that moved to the archive


class Total(models.Model):
    """One count (`TotalName`), in several rows (shards), so that concurrent transactions rarely lock the same one.

    `key` is the id of a workflow or an endpoint, or empty; `lane_id` is 0 where no lane is meant.
    """

    id = models.BigAutoField(primary_key=True)
    name = models.TextField()
    key = models.TextField(blank=True, default="")
    lane_id = models.IntegerField(default=0)
    label = models.TextField(blank=True, default="")
    shard = models.SmallIntegerField(default=0)
    count = models.BigIntegerField(default=0)

    class Meta:
        ordering = ("name", "key", "lane_id", "label", "shard")
        constraints = [
            models.UniqueConstraint(fields=("name", "key", "lane_id", "label", "shard"), name="total_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.key} {self.label}"


class WorkerFigure(models.Model):
    """Memory and CPU time of a worker process, written with each heartbeat."""

    worker = models.TextField(primary_key=True)
    memory_bytes = models.BigIntegerField()
    cpu_seconds = models.FloatField()
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ("worker",)

    def __str__(self) -> str:
        return self.worker
