"""n8n's executions: their results, their failure reports, and the retries that Backstop requests from n8n."""

from django.db import models
from django.db.models import F, Q

from .dead_letter import DeadLetter
from .delivery import Delivery
from .fields import SlugTextField
from .ids import uuid7
from .operation import Operation
from .workflow import DEFAULT_TENANT, Lane


class ExecutionStatus(models.TextChoices):
    """n8n's own status values of an execution."""

    CANCELED = "canceled"
    CRASHED = "crashed"
    ERROR = "error"
    NEW = "new"
    RUNNING = "running"
    SUCCESS = "success"
    UNKNOWN = "unknown"
    WAITING = "waiting"


class Execution(models.Model):
    """One execution in n8n, as far as it was reported, with the delivery that caused it, if known.

    `settled`: its end has been applied to its delivery, or else to its lane's breaker, so that another report of it
    changes nothing.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="executions", db_index=False)
    delivery = models.ForeignKey(
        Delivery, on_delete=models.SET_NULL, null=True, blank=True, related_name="executions", db_index=False
    )
    execution_id = models.TextField()
    status = models.TextField(choices=ExecutionStatus.choices)
    duration_ms = models.IntegerField(null=True, blank=True)
    settled = models.BooleanField(default=False)
    reported_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=("execution_id", "lane"), name="execution_once"),
            models.CheckConstraint(condition=Q(status__in=ExecutionStatus.values), name="execution_status_known"),
        ]
        indexes = [
            models.Index(F("lane"), F("id").desc(), name="execution_by_lane"),
            models.Index(F("status"), F("id").desc(), name="execution_by_status", condition=~Q(status="success")),
            models.Index(F("delivery"), name="execution_by_delivery", condition=Q(delivery__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.execution_id} ({self.status})"


class ReportState(models.TextChoices):
    """The state of a failure report: its delivery is looked up, it is matched to one, or it became a dead letter."""

    LOOKING_UP = "looking_up", "Looking up delivery"
    JOINED = "joined", "Matched to a delivery"
    BURIED = "buried", "Dead letter created"
    REFUSED = "refused", "Refused"


class ReportOrigin(models.TextChoices):
    """Who noticed the failure: n8n's Error Trigger, or Backstop's own check of n8n's executions."""

    ERROR_TRIGGER = "error_trigger", "n8n's Error Trigger"
    RECONCILED = "reconciled", "Reconciliation"


class FailureReport(models.Model):
    """A failed execution (or a trigger that could not start one), once per execution.

    It is joined to the delivery that caused it, or stored as a dead letter of source `n8n`. Until n8n has been asked
    which, its state is `looking_up`, with `look_up_at` as the time of the next look-up. `tenant` is the reporting
    key's, empty for a key of all tenants; `for_tenant` is the tenant of the dead letter. `attempt` is the number of the
    delivery's attempt that started the execution, if known.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    origin = models.TextField(choices=ReportOrigin.choices, default=ReportOrigin.ERROR_TRIGGER)
    state = models.TextField(choices=ReportState.choices)
    tenant = SlugTextField(blank=True, default="")
    for_tenant = SlugTextField(default=DEFAULT_TENANT)
    execution_id = models.TextField(blank=True, default="")
    execution_url = models.TextField(blank=True, default="")
    retry_of = models.TextField(blank=True, default="")
    n8n_workflow_id = models.TextField(blank=True, default="")
    n8n_workflow_name = models.TextField(blank=True, default="")
    status = models.TextField(choices=ExecutionStatus.choices, default=ExecutionStatus.ERROR)
    mode = models.TextField(blank=True, default="")
    node = models.TextField(blank=True, default="")
    error_code = models.TextField(blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    report = models.TextField(default="{}")
    attempt = models.IntegerField(null=True, blank=True)
    delivery = models.ForeignKey(
        Delivery, on_delete=models.SET_NULL, null=True, blank=True, related_name="failure_reports", db_index=False
    )
    dead_letter = models.ForeignKey(
        DeadLetter, on_delete=models.SET_NULL, null=True, blank=True, related_name="failure_reports", db_index=False
    )
    lookups = models.IntegerField(default=0)
    look_up_at = models.DateTimeField(null=True, blank=True)
    reported_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=("execution_id", "n8n_workflow_id", "tenant"),
                condition=~Q(execution_id=""),
                name="failure_report_once",
            ),
            models.CheckConstraint(condition=Q(state__in=ReportState.values), name="failure_report_state_known"),
        ]
        indexes = [
            models.Index(
                F("delivery"), F("id").desc(), name="failure_by_delivery", condition=Q(delivery__isnull=False)
            ),
            models.Index(F("dead_letter"), name="failure_by_dead_letter", condition=Q(dead_letter__isnull=False)),
            models.Index(F("look_up_at"), name="failure_looking_up", condition=Q(state="looking_up")),
            models.Index(F("state"), F("id").desc(), name="failure_by_state"),
            models.Index(F("error_code"), F("id").desc(), name="failure_by_code"),
            models.Index(F("n8n_workflow_id"), name="failure_of_trigger", condition=Q(execution_id="")),
        ]

    def __str__(self) -> str:
        return f"{self.execution_id or self.id} ({self.state})"


class RetryState(models.TextChoices):
    """The state of a retry that Backstop requested from n8n; the last two are final."""

    PENDING = "pending", "Pending"
    ASKED = "asked", "Requested"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"


class ExecutionRetry(models.Model):
    """A dead letter's replay by n8n's own retry, which continues from the failed node.

    `asked` is written before n8n is called. If the worker dies then, nobody knows whether the retry started; the next
    step asks n8n about it, and does not request it again.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    dead_letter = models.ForeignKey(DeadLetter, on_delete=models.CASCADE, related_name="execution_retries")
    operation = models.ForeignKey(
        Operation,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="execution_retries",
        db_index=False,
        db_constraint=False,
    )
    execution_id = models.TextField()
    load_workflow = models.BooleanField(default=True)
    state = models.TextField(choices=RetryState.choices, default=RetryState.PENDING)
    new_execution_id = models.TextField(blank=True, default="")
    error = models.TextField(blank=True, default="")
    looks = models.IntegerField(default=0)
    due_at = models.DateTimeField()
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "execution retries"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=RetryState.values), name="execution_retry_state_known"),
            models.UniqueConstraint(
                fields=("dead_letter",), condition=Q(state__in=("pending", "asked")), name="execution_retry_one_open"
            ),
        ]
        indexes = [
            models.Index(F("due_at"), name="execution_retry_open", condition=Q(state__in=("pending", "asked"))),
            models.Index(F("execution_id"), name="execution_retry_of"),
            models.Index(F("new_execution_id"), name="execution_retry_made", condition=~Q(new_execution_id="")),
        ]

    def __str__(self) -> str:
        return f"{self.execution_id} ({self.state})"
