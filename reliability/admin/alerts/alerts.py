"""Alerts: what fires, since when, who has it in hand, what was told of it, and the operator's hand."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Case, Value, When
from django.http import HttpRequest

from reliability.admin.common import list_columns
from reliability.admin.common.base import ReadOnlyScreen, Telling
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
    done="alerts acknowledged",
    call=alert_check.acknowledge,
    argument="alert_id",
    form=EndForm,
    warning="No reminder comes until then, or until it is over.",
)
SILENCE = Verb(
    key="silence",
    title="Silence",
    done="quiet periods begun",
    call=alert_check.silence_one,
    argument="alert_id",
    form=EndForm,
    warning="Nothing is told of this alert of its workflow until then. It needs an end.",
)
NOTICES_SHOWN = 20
TONES = {AlertState.FIRING: "bad", AlertState.PENDING: "warn", AlertState.RESOLVED: "good"}
WORST_FIRST = Case(
    When(state=AlertState.FIRING, then=Value(0)), When(state=AlertState.PENDING, then=Value(1)), default=Value(2)
)


@admin.register(Alert)
class AlertAdmin(Telling, PageScreen):
    verbs = (ACKNOWLEDGE, SILENCE)
    page_template = "admin/reliability/screens/alert.html"
    list_display = ("what", "standing", "sentence", "since", "in_hand", "when_told")
    list_filter = ("state", "severity", "name", list_columns.seen_by("workflow"))
    search_fields = ("name", "workflow", "tenant", "subject")
    search_help_text = "An alert, a workflow, a tenant, or what it is about"
    sortable_by = ()

    def get_ordering(self, request: HttpRequest) -> Sequence[Any]:
        return (WORST_FIRST, "-id")

    def describe(self, rows: Sequence[Any], *, now: datetime) -> None:
        super().describe(rows, now=now)
        silences = [one.rule for one in AlertSilence.objects.filter(until__gt=now)]
        for row in rows:
            row.is_quiet = is_silenced(silences=silences, alert=row.name, workflow=row.workflow, now=now)

    @admin.display(description="alert")
    def what(self, row: Alert) -> str:
        return list_columns.two_lines(row.name, row.who or "—")

    @admin.display(description="state")
    def standing(self, row: Alert) -> str:
        return list_columns.status_badge(row.state, tone=TONES[AlertState(row.state)])

    @admin.display(description="how it stands")
    def sentence(self, row: Alert) -> str:
        return list_columns.one_line(row.summary)

    @admin.display(description="since")
    def since(self, row: Any) -> str:
        return list_columns.moment(row.resolved_at or row.firing_since or row.pending_since, now=row.seen_at)

    @admin.display(description="in hand of")
    def in_hand(self, row: Any) -> str:
        if row.standing.is_acknowledged(now=row.seen_at):
            return str(row.acknowledged_by)
        return list_columns.quiet("a quiet period") if row.is_quiet else "—"

    @admin.display(description="told")
    def when_told(self, row: Any) -> str:
        return list_columns.moment(row.told_at, never="never", now=row.seen_at)

    def why_not(self, verb: Verb, row: Any) -> str:
        return "It does not fire." if verb is ACKNOWLEDGE and row.state != AlertState.FIRING else ""

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
            "stands": _stands(row, now),
            "bound": rule.bound if rule else "",
            "shown": shown,
            "in_hand": row.standing.is_acknowledged(now=now),
            "silences": list(silences.order_by("-until")),
            "runbook": f"{settings.ALERT_RUNBOOK_URL}#{row.runbook}",
            "notices": _notices(row),
            "entries": entries_of(row),
            "is_running": row.state == AlertState.FIRING,
        }


def _stands(row: Alert, now: datetime) -> str:
    match row.state:
        case AlertState.FIRING:
            return f"fires since {relative(at=row.firing_since or now, now=now)}"
        case AlertState.PENDING:
            return f"wrong since {relative(at=row.pending_since or now, now=now)}, not yet for long enough"
        case _:
            return f"over since {relative(at=row.resolved_at or now, now=now)}"


def _notices(row: Alert) -> list[tuple[AlertNotice, str]]:
    """Return the last notices that told of it, each with what it said of it."""
    found = AlertNotice.objects.filter(alert_ids__contains=[row.pk]).order_by("-id")[:NOTICES_SHOWN]
    return [
        (one, next((change["change"] for change in one.changes if change["id"] == str(row.pk)), "")) for one in found
    ]


@admin.register(AlertNotice)
class AlertNoticeAdmin(Telling, ReadOnlyScreen):
    list_display = ("said", "channel", "standing", "attempts", "error", "when", "sent")
    list_filter = ("state", "channel", list_columns.recent_by("created_at"))
    ordering = ("-id",)
    sortable_by = ()
    fields = (
        *("id", "channel", "state", "said", "attempts", "error", "created_at", "next_at", "sent_at", "its_delivery"),
        "text",
    )
    readonly_fields = ("said", "its_delivery", "text")

    @admin.display(description="notice")
    def said(self, row: AlertNotice) -> str:
        return alert_text.title(changes=_changes(row)).partition("] ")[2] or str(row.pk)

    @admin.display(description="text")
    def text(self, row: AlertNotice) -> str:
        return alert_text.body(changes=_changes(row))

    @admin.display(description="delivery")
    def its_delivery(self, row: AlertNotice) -> str:
        return list_columns.link_to("reliability.delivery", row.delivery_id) or "—"

    @admin.display(description="state")
    def standing(self, row: AlertNotice) -> str:
        failed = row.state == NoticeState.WAITING and row.error
        return list_columns.status_badge("failed" if failed else row.state, label="Tried again" if failed else "")

    @admin.display(description="written")
    def when(self, row: Any) -> str:
        return list_columns.moment(row.created_at, now=row.seen_at)

    @admin.display(description="sent")
    def sent(self, row: Any) -> str:
        return list_columns.moment(row.sent_at, never="not yet", now=row.seen_at)


def _changes(row: AlertNotice) -> list[alert_text.Change]:
    return [alert_text.Change(**one) for one in row.changes]
