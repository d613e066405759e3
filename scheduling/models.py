"""Cron jobs, their runs, and the pings that start them."""

import json
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.timezone import now as current

from reliability.errors import InvalidInput
from reliability.formats import strict_json
from reliability.models import DEFAULT_TENANT, Workflow
from reliability.models.fields import SlugTextField
from reliability.models.ids import uuid7

from .schedules import times
from .schedules.times import Schedule

YEAR_SECONDS = 366 * 86_400


class Overlap(models.TextChoices):
    """What to do with a run while the previous run has not finished."""

    SKIP = "skip", "Skip the run"
    QUEUE = "queue", "Queue it behind the previous run"


class CatchUp(models.TextChoices):
    """What to do about missed slots, for which no ping arrived."""

    NONE = "none", "Ignore them"
    ONE = "one", "One run for all of them"
    ALL = "all", "One run for each, oldest first"


class Builtin(models.TextChoices):
    """Jobs that Backstop runs itself."""

    NO = "", "No, calls workflows"
    CLEANUP = "cleanup", "Clean-up"
    ALERTS = "alerts", "Alert check"


class CronJob(models.Model):
    """A job that an external cron pings: the workflows that it calls, and its expected schedule.

    What lies before `active_since` was not expected: it is set when the job is made, enabled or rescheduled. The
    job `alerts` keeps `health`, the state that it saw last (`times.State`; empty: never checked).
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = SlugTextField(unique=True, help_text="Part of the ping path: POST /cron/<slug>/")
    name = models.TextField(help_text="Display name.")
    schedule = models.TextField(
        blank=True,
        default="",
        help_text="Cron expression, for example '0 9 * * MON', '@daily' or, with seconds, '30 0 9 * * 1'.",
    )
    timezone = models.TextField(default="UTC", help_text="Time zone of the expression, for example Europe/Berlin.")
    period_seconds = models.IntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(YEAR_SECONDS)],
        help_text="Expected period in seconds, instead of an expression.",
    )
    grace_seconds = models.IntegerField(
        default=300,
        validators=[MinValueValidator(0), MaxValueValidator(YEAR_SECONDS)],
        help_text="How late a run may be, in seconds, before it counts as missing.",
    )
    workflows = models.ManyToManyField(Workflow, blank=True, related_name="cron_jobs")
    tenant = SlugTextField(default=DEFAULT_TENANT)
    payload = models.JSONField(
        default=dict, blank=True, help_text="A JSON object that the workflows receive as 'data'."
    )
    overlap = models.TextField(choices=Overlap.choices, default=Overlap.SKIP)
    catch_up = models.TextField(choices=CatchUp.choices, default=CatchUp.NONE)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.TextField(blank=True, default="")
    builtin = models.TextField(choices=Builtin.choices, blank=True, default=Builtin.NO, editable=False)
    active_since = models.DateTimeField(default=current, editable=False)
    health = models.TextField(blank=True, default="", editable=False)
    health_changed_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("slug",)
        permissions = [
            ("run_cronjob", "Can run cron jobs manually"),
            ("enable_cronjob", "Can enable and disable cron jobs"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(schedule="") | Q(period_seconds__isnull=True),
                name="cron_job_one_kind_of_schedule",
                violation_error_message="Set a cron expression or a period, not both.",
            ),
            models.CheckConstraint(
                condition=Q(period_seconds__isnull=True) | Q(period_seconds__gt=0), name="cron_job_period_positive"
            ),
            models.CheckConstraint(condition=Q(grace_seconds__gte=0), name="cron_job_grace_not_negative"),
            models.CheckConstraint(condition=Q(overlap__in=Overlap.values), name="cron_job_overlap_known"),
            models.CheckConstraint(condition=Q(catch_up__in=CatchUp.values), name="cron_job_catch_up_known"),
            models.CheckConstraint(condition=Q(builtin__in=Builtin.values), name="cron_job_builtin_known"),
            models.UniqueConstraint(fields=("builtin",), condition=~Q(builtin=""), name="cron_job_builtin_once"),
        ]

    def __str__(self) -> str:
        return str(self.slug)

    def clean(self) -> None:
        self.payload = {} if self.payload is None else self.payload
        if not isinstance(self.payload, dict):
            raise ValidationError({"payload": "Enter a JSON object."})
        try:
            strict_json.load(json.dumps(self.payload))
        except InvalidInput as refusal:
            raise ValidationError({"payload": refusal.detail}) from None
        try:
            times.check(expression=self.schedule, timezone=self.timezone, now=current())
        except InvalidInput as refusal:
            raise ValidationError(refusal.errors) from None

    @property
    def expected(self) -> Schedule:
        """The expected schedule. The clean-up job's default period is N8N_DLQ_CLEANUP_INTERVAL_MS."""
        seconds: float | None = self.period_seconds
        if seconds is None and not self.schedule and self.builtin == Builtin.CLEANUP:
            seconds = settings.N8N_DLQ_CLEANUP_INTERVAL_MS / 1000
        return Schedule(self.schedule, self.timezone, timedelta(seconds=seconds) if seconds is not None else None)

    @property
    def grace(self) -> timedelta:
        return timedelta(seconds=self.grace_seconds)


class RunResult(models.TextChoices):
    """The result of starting a run."""

    ACCEPTED = "accepted", "Accepted"
    SKIPPED = "skipped", "Skipped: previous run not finished"
    FAILED = "failed", "Failed"


class Run(models.Model):
    """One run of a job: what it is called by (`key`), the slot it is for, and the deliveries that it led to.

    `started_at` rises from run to run of a job, which the job's lock sees to. How a run of workflows ended is on its
    deliveries; `finished_at` and `error` are those of the built-in jobs. `missed` counts the slots before it that no
    ping came for. A run that makes up for such a slot names, in `caught_up_by`, the run whose ping made it.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.ForeignKey(CronJob, on_delete=models.CASCADE, related_name="runs", db_index=False)
    key = models.TextField()
    slot = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    result = models.TextField(choices=RunResult.choices, default=RunResult.ACCEPTED)
    delivery_ids = ArrayField(models.UUIDField(), default=list, blank=True)
    missed = models.IntegerField(default=0)
    caught_up_by = models.UUIDField(null=True, blank=True, editable=False)
    error = models.TextField(blank=True, default="")

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=("job", "key"), name="cron_run_once"),
            models.CheckConstraint(condition=Q(result__in=RunResult.values), name="cron_run_result_known"),
        ]
        indexes = [
            models.Index(F("job"), F("started_at").desc(), name="cron_run_by_job"),
            models.Index(F("job"), F("slot").desc(), name="cron_run_by_slot", condition=Q(slot__isnull=False)),
            models.Index(F("job"), F("id").desc(), name="cron_run_newest"),
            models.Index(F("result"), F("id").desc(), name="cron_run_by_result", condition=~Q(result="accepted")),
            models.Index(F("caught_up_by"), name="cron_run_caught_up", condition=Q(caught_up_by__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.job_id and self.job.slug} {self.key}"


class PingResult(models.TextChoices):
    """The result of a ping."""

    RUN = "run", "Run started"
    REPEAT = "repeat", "Duplicate"
    SKIPPED = "skipped", "Skipped"
    DISABLED = "disabled", "Job disabled"
    OFF = "off", "Scheduling switched off"


class Ping(models.Model):
    """One authenticated POST to a job's ping path. Append-only."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(CronJob, on_delete=models.CASCADE, related_name="pings")
    at = models.DateTimeField(db_index=True)
    result = models.TextField(choices=PingResult.choices)
    duration_ms = models.IntegerField(default=0)
    address = models.TextField(blank=True, default="")
    run = models.ForeignKey(Run, on_delete=models.SET_NULL, null=True, blank=True, related_name="pings")

    class Meta:
        ordering = ("-id",)
        constraints = [models.CheckConstraint(condition=Q(result__in=PingResult.values), name="cron_ping_result_known")]
        indexes = [
            models.Index(F("job"), F("id").desc(), name="cron_ping_newest"),
            models.Index(F("result"), F("id").desc(), name="cron_ping_by_result", condition=~Q(result="run")),
        ]

    def __str__(self) -> str:
        return f"{self.job_id and self.job.slug} at {self.at}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise ValueError("A ping cannot be changed.")
        super().save(*args, **kwargs)
