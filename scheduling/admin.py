"""The console's screens of cron jobs, runs and pings, with the actions run now, enable and disable."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import BadRequest
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.widgets import UnfoldAdminTextareaWidget

from reliability.admin.common import list_columns, status_text
from reliability.admin.common.base import PreparesRows, ReadOnlyScreen, actor_of, as_uuid
from reliability.admin.common.confirm import ActionScreen, ReasonForm, Verb
from reliability.admin.common.reason_forms import RequiresReason, changed
from reliability.core import audit, clock
from reliability.models.ids import uuid7
from reliability.templatetags.console import duration, relative

from . import figures, health, jobs
from .figures import Past
from .forms import PayloadField
from .models import CronJob, Ping, Run


class RunForm(ReasonForm):
    """Asks for the reason. `once` is the form's own id, so that submitting it twice starts one run."""

    once = forms.UUIDField(required=False, initial=uuid7, widget=forms.HiddenInput)


RUN = Verb(
    key="run",
    title="Run now",
    done="started",
    call=jobs.run_now,
    argument="job_id",
    form=RunForm,
    warning="The run starts now, in addition to the schedule.",
)
ENABLE = Verb("enable", "Enable", "enabled", jobs.enable, "job_id")
DISABLE = Verb(
    key="disable",
    title="Disable",
    done="disabled",
    call=jobs.disable,
    argument="job_id",
    permission="enable",
    warning="Backstop refuses pings for this job from now on. Deliveries that it has accepted continue.",
)
SCHEDULE = ("schedule", "timezone", "period_seconds")
TONES = {"ok": "good", "failed": "bad", "running": "busy", "skipped": "off"}


def _load_health(rows: Iterable[CronJob]) -> None:
    for found in health.of(jobs=rows, now=clock.now()):
        found.job.standing = found.status  # type: ignore[attr-defined]  # for this page alone


@admin.register(CronJob)
class CronJobAdmin(PreparesRows, RequiresReason, ActionScreen):
    empty_text = "Add a job, then let your cron service send POST requests to its ping path."
    verbs = (RUN, ENABLE, DISABLE)
    list_display = ("slug", "state", "strip", "next_run", "late_by", "last_duration", "when", "tenant")
    list_filter = ("health", "enabled", "overlap", "catch_up")
    sortable_by = ("slug", "tenant")
    change_form_outer_before_template = "admin/reliability/screens/cron_job.html"
    search_fields = ("slug", "name", "tenant", "workflows__slug")
    autocomplete_fields = ("workflows",)
    formfield_overrides = {
        **ActionScreen.formfield_overrides,
        models.JSONField: {  # type: ignore[dict-item]  # the screen's are of text
            "form_class": PayloadField,
            "widget": UnfoldAdminTextareaWidget,
        },
    }
    readonly_fields = (
        *("enabled", "disabled_reason", "builtin", "health", "health_changed_at", "active_since", "created_at"),
    )
    fieldsets = (
        (None, {"fields": ("slug", "name", "tenant", "workflows", "payload")}),
        ("Schedule", {"fields": (*SCHEDULE, "grace_seconds")}),
        ("Overlapping and missed runs", {"fields": ("overlap", "catch_up")}),
        ("State", {"fields": readonly_fields}),
    )

    def prepare_rows(self, rows: Sequence[Any], *, now: datetime) -> None:
        super().prepare_rows(rows, now=now)
        _load_health(rows)
        pasts = figures.of(jobs=rows)
        for row in rows:
            row.pasts = pasts[row.pk]

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Leave out Select2's "clear all" button: it would be a child of the list of selected items, but is none."""
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None:
            field.widget.is_required = True
        return field

    def save_model(self, request: HttpRequest, obj: CronJob, form: Any, change: bool) -> None:
        """Save and record the changes. A new schedule counts from now, so no earlier slot counts as missed."""
        names = [name for name in form.changed_data if name not in ("workflows", "reason")]
        if not change or {*SCHEDULE} & {*names}:
            obj.active_since = clock.now()
            names.append("active_since")
        with transaction.atomic():
            obj.save(update_fields=names if change else None)
            action = "change_cron_job" if change else "create_cron_job"
            details = {"fields": changed(form)}
            actor = actor_of(request, form.cleaned_data["reason"])
            audit.record(actor=actor, action=action, now=clock.now(), target=obj, details=details)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show or save the form. The autocomplete field cannot render a value that is not an id."""
        if any(as_uuid(one) is None for one in request.POST.getlist("workflows")):
            raise BadRequest("The selection holds an invalid workflow id.")
        answer: HttpResponse = super().changeform_view(request, *args, **kwargs)
        return answer

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        pk = self.key_of(object_id)
        job = CronJob.objects.filter(pk=pk).first() if pk else None
        more = _summary(job, now=clock.now()) if job is not None else {}
        answer: HttpResponse = super().change_view(request, object_id, form_url, {**more, **(extra_context or {})})
        return answer

    @admin.display(description="state")
    def state(self, job: CronJob) -> str:
        return list_columns.status_badge(_standing(job).state)

    @admin.display(description="last runs")
    def strip(self, job: Any) -> str:
        return _strip(job.pasts, job.as_of)

    @admin.display(description="next run")
    def next_run(self, job: Any) -> str:
        return list_columns.moment(_standing(job).expected_at, now=job.as_of)

    @admin.display(description="duration")
    def last_duration(self, job: Any) -> str:
        return status_text.span(next((one.took for one in job.pasts if one.took is not None), None))

    @admin.display(description="late by")
    def late_by(self, job: CronJob) -> str:
        lateness = _standing(job).lateness
        return status_text.span(lateness) if lateness else "—"

    @admin.display(description="schedule")
    def when(self, job: CronJob) -> str:
        if job.schedule:
            return f"{job.schedule} ({job.timezone})"
        period = job.expected.period
        return f"every {duration(period)}" if period is not None else "no schedule"


def _strip(pasts: Sequence[Past], now: datetime) -> str:
    """Show the last runs as a strip, oldest first, each with its result as a tooltip."""
    if not pasts:
        return list_columns.muted("no runs yet")
    results = [(TONES[one.went], f"{one.went}, {relative(at=one.run.started_at, now=now)}") for one in reversed(pasts)]
    counts = Counter(one.went for one in pasts)
    runs = "run" if len(pasts) == 1 else f"{len(pasts)} runs"
    summary = f"The last {runs}: " + ", ".join(f"{count} {went}" for went, count in counts.items())
    bars = format_html_join("", '<span class="bs-{}" title="{}"></span>', results)
    return format_html('<span class="bs-strip" role="img" aria-label="{}">{}</span>', summary, bars)


def _summary(job: CronJob, *, now: datetime) -> dict[str, Any]:
    """Return the values above the form: state, lateness and the last runs."""
    _load_health([job])
    pasts = figures.of(jobs=[job])[job.pk]
    standing = _standing(job)
    return {
        "job": job,
        "now": now,
        "standing": standing,
        "lateness": status_text.span(standing.lateness) if standing.lateness else "",
        "strip": _strip(pasts, now),
        "runs": [(one, TONES[one.went], _optional(one.lateness), _optional(one.took)) for one in pasts],
        "lists": [
            (f"{reverse(f'admin:scheduling_{one}_changelist')}?job__id__exact={job.pk}", title)
            for one, title in (("run", "All runs"), ("ping", "All pings"))
        ],
    }


def _optional(found: timedelta | None) -> str:
    return status_text.span(found) if found is not None else "—"


def _standing(job: CronJob) -> Any:
    if not hasattr(job, "standing"):
        _load_health([job])
    return job.standing  # type: ignore[attr-defined]  # as above


class JobRows(PreparesRows):
    """Rows that belong to jobs, searched through indexes by the job's slug or by the row's `found_by` column."""

    found_by = ""

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        ids = dict(CronJob.objects.values_list("slug", "pk"))
        if term in ids:
            return rows.filter(job_id=ids[term])
        own = {self.found_by: term, "job_id__in": list(ids.values())} if self.found_by else None
        return rows.filter(**own) if own else rows.none()


@admin.register(Run)
class RunAdmin(JobRows, ReadOnlyScreen):
    list_display = ("key", "job", "result_badge", "slot_at", "lateness", "duration", "missed", "started", "error")
    list_filter = ("result", "job", list_columns.time_filter("started_at"))
    list_select_related = ("job",)
    search_fields = ("key",)
    search_help_text = "Job slug or full run key"
    found_by = "key"
    ordering = ("-id",)
    sortable_by = ()
    fields = (
        *("id", "job", "key", "slot", "started_at", "finished_at", "result", "missed", "caught_up_by", "deliveries"),
        "error",
    )
    readonly_fields = ("caught_up_by", "deliveries")

    def prepare_rows(self, rows: Sequence[Any], *, now: datetime) -> None:
        super().prepare_rows(rows, now=now)
        for row, found in zip(rows, figures.past(runs=rows), strict=True):
            row.past = found

    @admin.display(description="result")
    def result_badge(self, run: Any) -> str:
        return list_columns.status_badge(run.past.went, tone=TONES[run.past.went])

    @admin.display(description="slot")
    def slot_at(self, run: Any) -> str:
        return list_columns.moment(run.slot, never="none (manual or keyed run)", now=run.as_of)

    @admin.display(description="late by")
    def lateness(self, run: Any) -> str:
        return _optional(run.past.lateness)

    @admin.display(description="duration")
    def duration(self, run: Any) -> str:
        return _optional(run.past.took)

    @admin.display(description="started")
    def started(self, run: Any) -> str:
        return list_columns.moment(run.started_at, now=run.as_of)

    @admin.display(description="deliveries")
    def deliveries(self, run: Run) -> str:
        links = [(reverse("admin:reliability_delivery_change", args=[one]), one) for one in run.delivery_ids]
        return format_html_join(", ", '<a class="bs-link" href="{}">{}</a>', links)


@admin.register(Ping)
class PingAdmin(JobRows, ReadOnlyScreen):
    list_display = ("number", "job", "outcome", "run_link", "duration_ms", "address", "when")
    list_filter = ("result", "job", list_columns.time_filter("at", ordered_by_id=False))
    list_select_related = ("job",)
    search_fields = ("address",)
    search_help_text = "Full job slug"
    ordering = ("-id",)
    sortable_by = ()

    @admin.display(description="number")
    def number(self, ping: Ping) -> int:
        return ping.pk

    @admin.display(description="result")
    def outcome(self, ping: Ping) -> str:
        return list_columns.status_badge(ping.result)

    @admin.display(description="run")
    def run_link(self, ping: Ping) -> str:
        return list_columns.link_to("scheduling.run", ping.run_id, f"…{str(ping.run_id)[-8:]}") or "—"

    @admin.display(description="when")
    def when(self, ping: Any) -> str:
        return list_columns.moment(ping.at, now=ping.as_of)
