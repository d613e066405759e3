"""The data behind the charts: counts by lane and minute or hour, and failure groups."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from .ids import uuid7
from .workflow import Lane, Workflow

# Upper edges of the buckets of a latency, in milliseconds; the last bucket has none.
LATENCY_EDGES = (25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 1_800_000, 7_200_000)


class Grain(models.TextChoices):
    """The period that a row covers."""

    MINUTE = "minute"
    HOUR = "hour"


class Rollup(models.Model):
    """A lane's counts in the minute or hour that starts `at`.

    `retries` are attempts from the second on, counted once it is known how they went. `latency` counts delivered ones
    by how long it took from accepted to delivered, by `LATENCY_EDGES`.
    """

    id = models.BigAutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.CASCADE, related_name="rollups", db_index=False)
    grain = models.TextField(choices=Grain.choices)
    at = models.DateTimeField()
    delivered = models.IntegerField(default=0)
    dead = models.IntegerField(default=0)
    attempts = models.IntegerField(default=0)
    failures = models.IntegerField(default=0)
    retries = models.IntegerField(default=0, db_default=0)
    retries_delivered = models.IntegerField(default=0, db_default=0)
    latency = ArrayField(models.IntegerField(), default=list)

    class Meta:
        ordering = ("-at",)
        constraints = [models.UniqueConstraint(fields=("grain", "at", "lane"), name="rollup_once")]

    def __str__(self) -> str:
        return f"{self.lane_id} {self.grain} {self.at}"


class DeathRollup(models.Model):
    """New dead letters of a lane by reason in the minute or hour that starts `at`."""

    id = models.BigAutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.CASCADE, related_name="death_rollups", db_index=False)
    grain = models.TextField(choices=Grain.choices)
    at = models.DateTimeField()
    reason = models.TextField()
    count = models.IntegerField(default=0)

    class Meta:
        ordering = ("-at",)
        constraints = [models.UniqueConstraint(fields=("grain", "at", "lane", "reason"), name="death_rollup_once")]

    def __str__(self) -> str:
        return f"{self.lane_id} {self.grain} {self.at} {self.reason}"


class FailureGroup(models.Model):
    """Dead letters of one workflow with the same fingerprint; database triggers maintain the counts.

    `dead` counts those that are dead now, `seen` all there ever were; `message` is one of their errors.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="failure_groups", db_index=False)
    fingerprint = models.TextField()
    reason = models.TextField()
    code = models.TextField(blank=True, default="")
    message = models.TextField(blank=True, default="")
    dead = models.IntegerField(default=0)
    seen = models.IntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        ordering = ("-dead",)
        constraints = [models.UniqueConstraint(fields=("workflow", "fingerprint"), name="failure_group_once")]
        indexes = [models.Index(F("dead").desc(), name="failure_group_by_size", condition=Q(dead__gt=0))]

    def __str__(self) -> str:
        return f"{self.workflow_id} {self.fingerprint}"
