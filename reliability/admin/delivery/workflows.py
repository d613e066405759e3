"""Workflows and lanes: their policy, statistics, and the actions pause and resume."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from unfold.widgets import UnfoldAdminPasswordWidget

from reliability import queue
from reliability.admin.common import list_columns, status_text
from reliability.admin.common.base import PreparesRows, actor_of
from reliability.admin.common.confirm import ActionScreen, Verb
from reliability.admin.common.duration_forms import EndForm
from reliability.admin.common.reason_forms import RequiresReason, changed
from reliability.core import audit, clock
from reliability.delivery import control
from reliability.models import Lane, Workflow
from reliability.models.policy import POLICY_FIELDS
from reliability.models.workflow import ROUTE
from reliability.stats import workflow_stats

PAUSE = Verb("pause", "Pause", "paused; new deliveries wait", control.pause, "workflow_id", form=EndForm)
RESUME = Verb("resume", "Resume", "resumed", control.resume, "workflow_id", permission="pause")
SECRETS = ("auth_value", "signing_secret")
IN_MILLISECONDS = "_ms"


class WorkflowForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker alone
    """The form of a workflow. Secrets are write-only: an empty field keeps the stored value."""

    class Meta:
        model = Workflow
        fields = "__all__"  # noqa: DJ007  # the screen's fieldsets choose
        widgets = {name: UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}) for name in SECRETS}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in SECRETS:
            if name in self.fields:
                self.fields[name].help_text = "Write-only. Leave empty to keep the stored value."

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        for name in SECRETS:
            if name in self.fields and not values.get(name) and self.instance.pk:
                values[name] = getattr(self.instance, name)
        return values


class PolicyScreen(RequiresReason, ActionScreen):
    """A screen that changes a policy, records the change, and wakes the lanes that it applies to."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, record the changed fields, and wake the lanes so that the new policy applies to waiting deliveries."""
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            verb = "change" if change else "create"
            name = f"{verb}_{self.opts.model_name}"
            details = {"fields": changed(form)}
            actor = actor_of(request, form.cleaned_data["reason"])
            audit.record(actor=actor, action=name, now=clock.now(), target=obj, details=details)
            queue.wake_waiting(workflow_id=getattr(obj, "workflow_id", obj.pk))


@admin.register(Workflow)
class WorkflowAdmin(PreparesRows, PolicyScreen):
    empty_text = "Add a workflow here, or import a file with manage.py import_workflows."
    verbs = (PAUSE, RESUME)
    form = WorkflowForm
    list_display = ("name", "badge", "success", "p95", "dead", "waiting", "last_success", "slug")
    list_filter = ("paused", "completion")
    sortable_by = ("name", "slug")
    change_form_outer_before_template = "admin/reliability/screens/workflow.html"
    search_fields = ("slug", "name", "path")
    prepopulated_fields = {"slug": ("name",)}
    readonly_fields = ("paused", "paused_reason", "paused_until", "created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("name", "slug", "path", "n8n_workflow_id", "stripe_events")}),
        ("Policy (empty: value from the environment)", {"fields": tuple(POLICY_FIELDS)}),
        ("Authentication and signing", {"fields": ("auth_header", *SECRETS)}),
        ("State", {"fields": readonly_fields}),
    )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if set(changed(form)) & set(ROUTE):
            obj.route_changed_at = clock.now()
        super().save_model(request, obj, form, change)

    def prepare_rows(self, rows: Sequence[Any], *, now: datetime) -> None:
        super().prepare_rows(rows, now=now)
        found = workflow_stats.figures_of(workflows=rows, now=now)
        for row in rows:
            row.figures = found[row.pk]

    @admin.display(description="state")
    def badge(self, row: Any) -> str:
        return _state_badge(row, row.as_of)

    @admin.display(description="success, 24 h")
    def success(self, row: Any) -> str:
        return percent(row.figures.success)

    @admin.display(description="p95 latency")
    def p95(self, row: Any) -> str:
        return _latency(row.figures.p95_ms)

    @admin.display(description="dead letters")
    def dead(self, row: Any) -> str:
        return _counted("deadletter", row, "dead", row.figures.dead)

    @admin.display(description="waiting")
    def waiting(self, row: Any) -> str:
        return _counted("delivery", row, "pending", row.figures.waiting)

    @admin.display(description="last success")
    def last_success(self, row: Any) -> str:
        return list_columns.moment(row.figures.last_success_at, never="none in 24 h", now=row.as_of)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        pk = self.key_of(object_id)
        row = Workflow.objects.filter(pk=pk).first() if pk else None
        more = _summary(row, now=clock.now()) if row is not None and request.method == "GET" else {}
        answer: HttpResponse = super().change_view(request, object_id, form_url, {**more, **(extra_context or {})})
        return answer


def percent(share: float | None) -> str:
    """Return a share as a percentage. Only exactly 1 is shown as 100 %: a few failures must stay visible."""
    if share is None:
        return "—"
    return "100 %" if share == 1 else f"{min(share, 0.9999) * 100:.{2 if share > 0.99 else 1}f} %"


def _latency(milliseconds: float | None) -> str:
    return status_text.span(timedelta(milliseconds=milliseconds) if milliseconds is not None else None)


def _state_badge(row: Workflow, now: datetime) -> str:
    if row.is_paused(now=now):
        end = f"; resumes {status_text.until(row.paused_until, now=now)}" if row.paused_until else ""
        return list_columns.two_lines(
            list_columns.status_badge("paused"), f"{status_text.short(row.paused_reason) or 'no reason given'}{end}"
        )
    return list_columns.status_badge("active")


def _counted(model: str, row: Workflow, state: str, count: int) -> str:
    """Show a count as a link to the rows that it counts."""
    if not count:
        return list_columns.muted("0")
    field = "status" if model == "deadletter" else "state"
    return list_columns.link_to_list(
        f"reliability.{model}", f"{count:,}", workflow=row.slug, **{f"{field}__exact": state}
    )


def _summary(row: Workflow, *, now: datetime) -> dict[str, Any]:
    """Return the values above the form: statistics, and the policy in effect."""
    tenants = workflow_stats.tenants_of(workflow=row)
    return {
        "row": row,
        "now": now,
        "figures": workflow_stats.figures_of(workflows=[row], now=now)[row.pk],
        "state_badge": _state_badge(row, now),
        "policy": [(_label(one.name), _shown(one), one.origin) for one in workflow_stats.policy_of(workflow=row)],
        "tenants": [(one.lane, [f"{_label(v.name)}: {_shown(v)}" for v in one.values]) for one in tenants],
    }


def _label(name: str) -> str:
    return name.removesuffix(IN_MILLISECONDS).replace("_", " ")


def _shown(one: workflow_stats.PolicyValue) -> str:
    if one.value is None:
        return "no limit" if one.name.startswith("rate_limit") else "none"
    if one.name.endswith(IN_MILLISECONDS):
        return status_text.span(timedelta(milliseconds=one.value))
    return {True: "yes", False: "no"}.get(one.value, str(one.value)) if isinstance(one.value, bool) else str(one.value)


@admin.register(Lane)
class LaneAdmin(PolicyScreen):
    empty_text = "Backstop creates a lane with the first delivery of a workflow and tenant."
    list_display = ("workflow", "tenant", "concurrency_limit", "max_retries", "rate_limit_per_minute", "created_at")
    list_filter = ("workflow", "tenant")
    list_select_related = ("workflow",)
    search_fields = ("workflow__slug", "workflow__name", "tenant")
    readonly_fields = ("workflow", "tenant", "created_at")
    fieldsets = (
        (None, {"fields": readonly_fields}),
        ("Overrides for this tenant (empty: value from the workflow)", {"fields": tuple(POLICY_FIELDS)}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
