"""Alerts and the notices about them: state, start, who acknowledged it, notices sent, and the operator's actions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Case, Value, When
from django.http import HttpRequest

from reliability.admin.common import list_columns
from reliability.admin.common.base import PreparesRows, ReadOnlyScreen
from reliability.admin.common.confirm import Verb
from reliability.admin.common.duration_forms import EndForm
from reliability.admin.common.page import PageScreen, entries_of
from reliability.alerts import check as alert_check
from reliability.models import Alert, AlertNotice, AlertSilence, AlertState, NoticeState
from reliability.policies import alert_text
from reliability.policies.alert_rules import BY_NAME
from reliability.policies.alerts import is_silenced
from reliability.templatetags.console import relative

ACKNOWLEDGE = Verb(
    key="acknowledge",
    title="Acknowledge",
    done="acknowledged",
    call=alert_check.acknowledge,
    argument="alert_id",
    form=EndForm,
    warning="Backstop sends no reminders until then, or until the alert is resolved.",
)
SILENCE = Verb(
    key="silence",
    title="Silence",
    done="silenced",
    call=alert_check.silence_one,
    argument="alert_id",
    form=EndForm,
    warning="Backstop sends no notices about this alert for its workflow until then. An end is required.",
)
NOTICES_SHOWN = 20
TONES = {AlertState.FIRING: "bad", AlertState.PENDING: "warn", AlertState.RESOLVED: "good"}
WORST_FIRST = Case(
    When(state=AlertState.FIRING, then=Value(0)), When(state=AlertState.PENDING, then=Value(1)), default=Value(2)
)


@admin.register(Alert)
class AlertAdmin(PreparesRows, PageScreen):
    empty_text = "Alerts appear here when the alert check finds a value beyond its limit."
    verbs = (ACKNOWLEDGE, SILENCE)
    page_template = "admin/reliability/screens/alert.html"
    list_display = ("alert_name", "badge", "summary_line", "since", "acknowledger", "notified")
    list_filter = ("state", "severity", "name", list_columns.value_filter("workflow"))
    search_fields = ("name", "workflow", "tenant", "subject")
    search_help_text = "Alert, workflow, tenant or subject"
    sortable_by = ()

    def get_ordering(self, request: HttpRequest) -> Sequence[Any]:
        return (WORST_FIRST, "-id")

    def prepare_rows(self, rows: Sequence[Any], *, now: datetime) -> None:
        super().prepare_rows(rows, now=now)
        silences = [one.rule for one in AlertSilence.objects.filter(until__gt=now)]
        for row in rows:
            row.is_quiet = is_silenced(silences=silences, alert=row.name, workflow=row.workflow, now=now)

    @admin.display(description="alert")
    def alert_name(self, row: Alert) -> str:
        return list_columns.two_lines(row.name, row.who or "—")

    @admin.display(description="state")
    def badge(self, row: Alert) -> str:
        return list_columns.status_badge(row.state, tone=TONES[AlertState(row.state)])

    @admin.display(description="summary")
    def summary_line(self, row: Alert) -> str:
        return list_columns.one_line(row.summary)

    @admin.display(description="since")
    def since(self, row: Any) -> str:
        return list_columns.moment(row.resolved_at or row.firing_since or row.pending_since, now=row.as_of)

    @admin.display(description="acknowledged by")
    def acknowledger(self, row: Any) -> str:
        if row.standing.is_acknowledged(now=row.as_of):
            return str(row.acknowledged_by)
        return list_columns.muted("silenced") if row.is_quiet else "—"

    @admin.display(description="notified")
    def notified(self, row: Any) -> str:
        return list_columns.moment(row.told_at, never="never", now=row.as_of)

    def why_disabled(self, verb: Verb, row: Any) -> str:
        return "The alert is not firing." if verb is ACKNOWLEDGE and row.state != AlertState.FIRING else ""

    def page(self, request: HttpRequest, row: Any, *, now: datetime) -> dict[str, Any]:
        rule = BY_NAME.get(row.name)
        shown = (
            {name: alert_text.amount(rule=rule, value=getattr(row, name)) for name in ("value", "limit")}
            if rule
            else {}
        )
        silences = AlertSilence.objects.filter(until__gt=now, alert__in=("", row.name), workflow__in=("", row.workflow))
        return {
            "title": str(row),
            "sentence": row.summary,
            "tone": TONES[AlertState(row.state)],
            "status": _status(row, now),
            "bound": rule.bound if rule else "",
            "shown": shown,
            "is_acknowledged": row.standing.is_acknowledged(now=now),
            "silences": list(silences.order_by("-until")),
            "runbook": f"{settings.ALERT_RUNBOOK_URL}#{row.runbook}",
            "notices": _notices(row),
            "entries": entries_of(row),
            "is_running": row.state == AlertState.FIRING,
        }


def _status(row: Alert, now: datetime) -> str:
    match row.state:
        case AlertState.FIRING:
            return f"firing, started {relative(at=row.firing_since or now, now=now)}"
        case AlertState.PENDING:
            return f"pending, over its limit since {relative(at=row.pending_since or now, now=now)}"
        case _:
            return f"resolved {relative(at=row.resolved_at or now, now=now)}"


def _notices(row: Alert) -> list[tuple[AlertNotice, str]]:
    """Return the newest notices that mention an alert, each with the change that it reported."""
    found = AlertNotice.objects.filter(alert_ids__contains=[row.pk]).order_by("-id")[:NOTICES_SHOWN]
    return [
        (one, next((change["change"] for change in one.changes if change["id"] == str(row.pk)), "")) for one in found
    ]


@admin.register(AlertNotice)
class AlertNoticeAdmin(PreparesRows, ReadOnlyScreen):
    empty_text = "Backstop sends a notice when an alert fires or is resolved and a channel is configured."
    list_display = ("title", "channel", "badge", "attempts", "error", "when", "sent")
    list_filter = ("state", "channel", list_columns.time_filter("created_at"))
    ordering = ("-id",)
    sortable_by = ()
    fields = (
        *("id", "channel", "state", "title", "attempts", "error", "created_at", "next_at", "sent_at", "delivery_link"),
        "text",
    )
    readonly_fields = ("title", "delivery_link", "text")

    @admin.display(description="notice")
    def title(self, row: AlertNotice) -> str:
        return alert_text.title(changes=_changes(row)).partition("] ")[2] or str(row.pk)

    @admin.display(description="text")
    def text(self, row: AlertNotice) -> str:
        return alert_text.body(changes=_changes(row))

    @admin.display(description="delivery")
    def delivery_link(self, row: AlertNotice) -> str:
        return list_columns.link_to("reliability.delivery", row.delivery_id) or "—"

    @admin.display(description="state")
    def badge(self, row: AlertNotice) -> str:
        failed = row.state == NoticeState.WAITING and row.error
        return list_columns.status_badge("failed" if failed else row.state, label="Retrying" if failed else "")

    @admin.display(description="created")
    def when(self, row: Any) -> str:
        return list_columns.moment(row.created_at, now=row.as_of)

    @admin.display(description="sent")
    def sent(self, row: Any) -> str:
        return list_columns.moment(row.sent_at, never="not yet", now=row.as_of)


def _changes(row: AlertNotice) -> list[alert_text.Change]:
    return [alert_text.Change(**one) for one in row.changes]
