"""Circuit breakers, and the history of their transitions."""

from django.db import models
from django.db.models import Q, Value

from reliability.policies import breaker as policy

from .ids import uuid7
from .workflow import Lane


class Scope(models.TextChoices):
    """What a breaker protects: one lane, or the n8n instance."""

    LANE = "lane", "Lane"
    INSTANCE = "instance", "n8n instance"


class BreakerState(models.TextChoices):
    """The states of `policies.breaker.State`."""

    CLOSED = "closed", "Closed"
    OPEN = "open", "Open"
    HALF_OPEN = "half_open", "Half-open"
    FORCED_OPEN = "forced_open", "Forced open"


SNAPSHOT_FIELDS = (
    "state",
    "reason",
    "buckets",
    "opened_at",
    "next_probe_at",
    "forced_until",
    "openings",
    "probe_until",
    "good_probes",
    "ramp",
    "suspects",
    "refusals",
    "refused_at",
    "passed_at",
)
# Stored as JSON lists of lists; in the snapshot, which is immutable, they are tuples of tuples.
LISTS = ("buckets", "suspects")


class Breaker(models.Model):
    """The circuit breaker of a lane, or of the n8n instance: a `policies.breaker.Snapshot` by columns."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    scope = models.TextField(choices=Scope.choices, default=Scope.LANE)
    lane = models.OneToOneField(Lane, on_delete=models.CASCADE, null=True, blank=True, related_name="breaker")
    state = models.TextField(choices=BreakerState.choices, default=BreakerState.CLOSED)
    reason = models.TextField(blank=True, default="")
    buckets = models.JSONField(default=list, blank=True)
    opened_at = models.DateTimeField(null=True, blank=True)
    next_probe_at = models.DateTimeField(null=True, blank=True)
    forced_until = models.DateTimeField(null=True, blank=True)
    openings = models.IntegerField(default=0)
    probe_until = models.DateTimeField(null=True, blank=True)
    good_probes = models.IntegerField(default=0)
    ramp = models.IntegerField(null=True, blank=True)
    suspects = models.JSONField(default=list, blank=True, db_default=Value([], models.JSONField()))
    refusals = models.IntegerField(default=0, db_default=0)
    refused_at = models.DateTimeField(null=True, blank=True)
    passed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-scope", "id")
        permissions = [
            ("reset_breaker", "Can reset breakers"),
            ("force_open_breaker", "Can force breakers open"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(scope="lane", lane__isnull=False) | Q(scope="instance", lane__isnull=True),
                name="breaker_lane_fits_scope",
            ),
            models.UniqueConstraint(fields=("scope",), condition=Q(scope="instance"), name="breaker_one_instance"),
            models.CheckConstraint(condition=Q(state__in=BreakerState.values), name="breaker_state_known"),
        ]
        indexes = [
            models.Index(fields=("state",), name="breaker_not_closed", condition=~Q(state="closed")),
        ]

    def __str__(self) -> str:
        return str(self.lane) if self.lane_id else "n8n instance"

    @property
    def snapshot(self) -> policy.Snapshot:
        values = {name: getattr(self, name) for name in SNAPSHOT_FIELDS}
        values["state"] = policy.State(self.state)
        for name in LISTS:
            values[name] = tuple(tuple(one) for one in values[name])
        return policy.Snapshot(**values)

    def save_snapshot(self, snapshot: policy.Snapshot) -> bool:
        """Store a snapshot; return whether anything changed."""
        # Most results change nothing: the comparison saves an UPDATE, and with it a dead row, per attempt.
        if snapshot == self.snapshot:
            return False
        for name in SNAPSHOT_FIELDS:
            setattr(self, name, getattr(snapshot, name))
        self.state = str(snapshot.state)
        for name in LISTS:
            setattr(self, name, [list(one) for one in getattr(snapshot, name)])
        self.save(update_fields=SNAPSHOT_FIELDS)
        return True


class BreakerTransition(models.Model):
    """One change of a breaker's state, with its reason and actor. Append-only."""

    id = models.BigAutoField(primary_key=True)
    breaker = models.ForeignKey(Breaker, on_delete=models.CASCADE, related_name="transitions")
    from_state = models.TextField(choices=BreakerState.choices)
    to_state = models.TextField(choices=BreakerState.choices)
    reason = models.TextField(blank=True, default="")
    actor = models.TextField(default="backstop")
    at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.from_state} -> {self.to_state}"
