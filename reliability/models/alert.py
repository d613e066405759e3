"""Alerts, silences, and the notices that are sent about alerts."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q

from reliability.policies import alerts as policy
from reliability.policies.alert_rules import BY_NAME, NAMES, Severity

from .ids import uuid7

STANDING_FIELDS = tuple(policy.AlertStatus.__dataclass_fields__)


class AlertState(models.TextChoices):
    """The states of `policies.alerts.State` that are stored."""

    PENDING = "pending", "Pending"
    FIRING = "firing", "Firing"
    RESOLVED = "resolved", "Resolved"


class AlertQuerySet(models.QuerySet["Alert"]):
    def firing(self) -> "AlertQuerySet":
        return self.filter(state=AlertState.FIRING)


class Alert(models.Model):
    """One kind of alert of one workflow, lane, endpoint, job or process: a `policies.alerts.AlertStatus` by columns.

    The row is used again when the alert fires again. `value` and `limit` are those of the last reading above the limit.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.TextField()
    workflow = models.TextField(blank=True, default="")
    tenant = models.TextField(blank=True, default="")
    subject = models.TextField(blank=True, default="")
    severity = models.TextField(choices=[(str(one), str(one)) for one in Severity])
    state = models.TextField(choices=AlertState.choices)
    value = models.FloatField()
    limit = models.FloatField()
    summary = models.TextField(blank=True, default="")
    pending_since = models.DateTimeField(null=True, blank=True)
    firing_since = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    told = models.TextField(blank=True, default="")
    told_at = models.DateTimeField(null=True, blank=True)
    acknowledged = models.BooleanField(default=False)
    acknowledged_until = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.TextField(blank=True, default="")
    acknowledged_reason = models.TextField(blank=True, default="")
    checked_at = models.DateTimeField()

    objects = AlertQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        permissions = [
            ("acknowledge_alert", "Can acknowledge alerts"),
            ("silence_alert", "Can silence alerts for a time"),
        ]
        constraints = [
            models.UniqueConstraint(fields=("name", "workflow", "tenant", "subject"), name="alert_once"),
            models.CheckConstraint(condition=Q(state__in=AlertState.values), name="alert_state_known"),
        ]
        indexes = [
            models.Index(F("state"), F("id").desc(), name="alert_by_state"),
            models.Index(F("workflow"), F("id").desc(), name="alert_by_workflow"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.who}" if self.who else self.name

    @property
    def who(self) -> str:
        lane = f"{self.workflow}/{self.tenant}" if self.workflow and self.tenant else self.workflow
        return lane or self.subject

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.name, self.workflow, self.tenant, self.subject

    @property
    def runbook(self) -> str:
        """The heading of its page in the runbook."""
        return self.name.lower() if self.name in BY_NAME else ""

    @property
    def standing(self) -> policy.AlertStatus:
        values = {name: getattr(self, name) for name in STANDING_FIELDS}
        values["state"] = policy.State(self.state)
        values["told"] = policy.ChangeKind(self.told) if self.told else None
        return policy.AlertStatus(**values)

    def take(self, standing: policy.AlertStatus) -> None:
        """Take over a standing, without saving it; one that is no longer acknowledged forgets by whom it was."""
        for name in STANDING_FIELDS:
            setattr(self, name, getattr(standing, name))
        self.state, self.told = str(standing.state), str(standing.told or "")
        if not standing.acknowledged:
            self.acknowledged_at, self.acknowledged_by, self.acknowledged_reason = None, "", ""


class AlertSilence(models.Model):
    """A silence: of one alert or all (empty), of one workflow or all, until a time, with a reason."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    alert = models.TextField(
        blank=True, default="", choices=[(one, one) for one in NAMES], help_text="Empty: all alerts."
    )
    workflow = models.TextField(blank=True, default="", help_text="A workflow's slug. Empty: all workflows.")
    until = models.DateTimeField()
    reason = models.TextField()
    created_at = models.DateTimeField()
    created_by = models.TextField()

    class Meta:
        ordering = ("-id",)
        verbose_name = "silence"
        permissions = [("end_alertsilence", "Can end silences")]
        indexes = [models.Index(F("until").desc(), name="alert_silence_by_end")]

    def __str__(self) -> str:
        return f"{self.alert or 'All alerts'} of {self.workflow or 'all workflows'}"

    @property
    def rule(self) -> policy.Silence:
        return policy.Silence(self.alert, self.workflow, self.until)


class AlertChannel(models.TextChoices):
    """How a notice is sent."""

    MAIL = "mail", "Mail"
    WEBHOOK = "webhook", "Webhook"
    WORKFLOW = "workflow", "Workflow"


class NoticeState(models.TextChoices):
    """The state of a notice; a waiting one with an error is sent again."""

    WAITING = "waiting", "Waiting"
    SENT = "sent", "Sent"
    SUPERSEDED = "superseded", "Superseded by a later reminder"
    DROPPED = "dropped", "Dropped: channel no longer configured"


class AlertNotice(models.Model):
    """A message for one channel about everything that changed with one check: written with the change, sent after it.

    `changes` is a list of `policies.alert_text.Change` as JSON. `lease_until` ends a sender's claim.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    channel = models.TextField(choices=AlertChannel.choices)
    state = models.TextField(choices=NoticeState.choices, default=NoticeState.WAITING)
    changes = models.JSONField(default=list)
    alert_ids = ArrayField(models.UUIDField(), default=list)
    created_at = models.DateTimeField()
    attempts = models.IntegerField(default=0)
    next_at = models.DateTimeField()
    lease_token = models.UUIDField(null=True, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)
    delivery_id = models.UUIDField(null=True, blank=True)
    error = models.TextField(blank=True, default="")

    class Meta:
        ordering = ("-id",)
        verbose_name = "notice"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=NoticeState.values), name="alert_notice_state_known"),
            models.CheckConstraint(condition=Q(channel__in=AlertChannel.values), name="alert_notice_channel_known"),
        ]
        indexes = [
            models.Index(F("next_at"), name="alert_notice_waiting", condition=Q(state="waiting")),
            GinIndex(fields=("alert_ids",), name="alert_notice_by_alert"),
        ]

    def __str__(self) -> str:
        return f"{self.channel} {self.id}"


class ProcessSample(models.Model):
    """A process's CPU time at a check, from which the next check computes its share since (1: one whole CPU)."""

    name = models.TextField(primary_key=True)
    cpu_seconds = models.FloatField()
    share = models.FloatField(null=True, blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
