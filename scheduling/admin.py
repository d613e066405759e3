"""The console's screens of cron jobs: how they stand, what they did, and the operator's hand."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from unfold.views import ChangeList

from reliability.admin.base import ReadOnlyScreen, hand_of
from reliability.admin.confirm import ActingScreen, Verb
from reliability.pipeline import audit, clock

from . import health, jobs
from .models import CronJob, Ping, Run

RUN = Verb("run", "Run now", "cron jobs run", jobs.run_now, "job_id", warning="Beside the schedule, and at once.")
ENABLE = Verb("enable", "Enable", "cron jobs enabled", jobs.enable, "job_id")
DISABLE = Verb(
    key="disable",
    title="Disable",
    done="cron jobs disabled",
    call=jobs.disable,
    argument="job_id",
    permission="enable",
    warning="Its pings are refused from now on; what was accepted goes on.",
)
SCHEDULE = ("schedule", "timezone", "period_seconds")


class Standings(ChangeList):
    """A page of jobs, each with how it stands."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        _stand(self.result_list)


def _stand(rows: Iterable[CronJob]) -> None:
    for found in health.of(jobs=rows, now=clock.now()):
        found.job.standing = found.standing  # type: ignore[attr-defined]  # for this page alone


@admin.register(CronJob)
class CronJobAdmin(ActingScreen):
    verbs = (RUN, ENABLE, DISABLE)
    list_display = ("slug", "name", "state", "expected_at", "late_by", "when", "enabled", "tenant", "overlap")
    list_filter = ("health", "enabled", "tenant", "overlap", "catch_up", "workflows")
    search_fields = ("slug", "name", "tenant", "workflows__slug")
    autocomplete_fields = ("workflows",)
    readonly_fields = (
        *("enabled", "disabled_reason", "builtin", "state", "expected_at", "late_by", "health", "health_changed_at"),
        *("active_since", "created_at", "history"),
    )
    fieldsets = (
        (None, {"fields": ("slug", "name", "tenant", "workflows", "payload")}),
        ("Expected", {"fields": (*SCHEDULE, "grace_seconds")}),
        ("When runs meet, or are missed", {"fields": ("overlap", "catch_up")}),
        ("State", {"fields": readonly_fields}),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Standings

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> CronJob | None:
        found: CronJob | None = super().get_object(request, object_id, from_field)
        if found is not None:
            _stand([found])
        return found

    def save_model(self, request: HttpRequest, obj: CronJob, form: Any, change: bool) -> None:
        """Save what was changed, on record. A new schedule counts from now: nothing before was missed under it."""
        names = [name for name in form.changed_data if name != "workflows"]
        if not change or {*SCHEDULE} & {*names}:
            obj.active_since = clock.now()
            names.append("active_since")
        with transaction.atomic():
            obj.save(update_fields=names if change else None)
            action = "change_cron_job" if change else "create_cron_job"
            details = {"fields": form.changed_data}
            audit.record(hand=hand_of(request), action=action, now=clock.now(), target=obj, details=details)

    @admin.display(description="state")
    def state(self, job: CronJob) -> str:
        return str(_standing(job).state) if job.pk and not job._state.adding else ""

    @admin.display(description="next expected")
    def expected_at(self, job: CronJob) -> Any:
        return cells.moment(_standing(job).expected_at) if not job._state.adding else None

    @admin.display(description="late by")
    def late_by(self, job: CronJob) -> str:
        lateness = _standing(job).lateness if not job._state.adding else None
        return str(lateness).partition(".")[0] if lateness else ""

    @admin.display(description="schedule")
    def when(self, job: CronJob) -> str:
        if job.schedule:
            return f"{job.schedule} ({job.timezone})"
        period = job.expected.period
        return f"every {period}" if period is not None else ""

    @admin.display(description="runs and pings")
    def history(self, job: CronJob) -> str:
        if job._state.adding:
            return ""
        lists = [(reverse(f"admin:scheduling_{one}_changelist"), job.pk, f"{one}s") for one in ("run", "ping")]
        return format_html_join(", ", '<a href="{}?job__id__exact={}">{}</a>', lists)


def _standing(job: CronJob) -> Any:
    if not hasattr(job, "standing"):
        _stand([job])
    return job.standing  # type: ignore[attr-defined]  # as above


@admin.register(Run)
class RunAdmin(ReadOnlyScreen):
    list_display = ("started_at", "job", "key", "slot", "result", "missed", "finished_at", "error")
    list_filter = ("result", "job", "started_at")
    list_select_related = ("job",)
    search_fields = ("job__slug", "key")
    fields = (
        *("id", "job", "key", "slot", "started_at", "finished_at", "result", "missed", "caught_up_by", "deliveries"),
        "error",
    )
    readonly_fields = ("caught_up_by", "deliveries")

    @admin.display(description="deliveries")
    def deliveries(self, run: Run) -> str:
        links = [(reverse("admin:reliability_delivery_change", args=[one]), one) for one in run.delivery_ids]
        return format_html_join(", ", '<a href="{}">{}</a>', links)


@admin.register(Ping)
class PingAdmin(ReadOnlyScreen):
    list_display = ("at", "job", "result", "duration_ms", "address", "run_id")
    list_filter = ("result", "job", "at")
    list_select_related = ("job",)
    search_fields = ("job__slug", "address")
