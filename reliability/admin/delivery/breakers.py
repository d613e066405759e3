"""Circuit breakers and their transitions: state, cause, next probe, and the actions reset and force open."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from reliability.admin.common import list_columns, status_text
from reliability.admin.common.base import PreparesRows, ReadOnlyScreen
from reliability.admin.common.confirm import Verb
from reliability.admin.common.duration_forms import EndForm
from reliability.admin.common.page import PageScreen, entries_of
from reliability.lanes import breakers
from reliability.models import Breaker, BreakerState, BreakerTransition
from reliability.stats import charts
from reliability.stats.charts import Range

RESET = Verb("reset", "Reset breaker", "reset", breakers.reset, "breaker_id")
FORCE_OPEN = Verb(
    key="force_open",
    title="Force open",
    done="forced open",
    call=breakers.force_open,
    argument="breaker_id",
    form=EndForm,
    warning="Backstop sends nothing through the breaker until then, or until you reset it. New deliveries wait.",
)
TRANSITIONS_SHOWN = 50
TONES = {
    BreakerState.CLOSED: "good",
    BreakerState.HALF_OPEN: "warn",
    BreakerState.OPEN: "bad",
    BreakerState.FORCED_OPEN: "bad",
}


@admin.register(Breaker)
class BreakerAdmin(PreparesRows, PageScreen):
    empty_text = "Each lane gets a breaker with its first delivery."
    verbs = (RESET, FORCE_OPEN)
    page_template = "admin/reliability/screens/breaker.html"
    list_display = ("name", "badge", "status_line", "opened", "openings")
    list_filter = ("state", "scope", "lane__workflow")
    list_select_related = ("lane__workflow",)
    search_fields = ("lane__workflow__slug", "lane__workflow__name", "lane__tenant")
    search_help_text = "Workflow or tenant"
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        found: QuerySet[Any] = super().get_queryset(request)
        return found.select_related("lane__workflow")

    def get_ordering(self, request: HttpRequest) -> Sequence[str]:
        """Breakers that are not closed come first, the most recently opened at the top."""
        return ("-state", "-opened_at", "scope", "id")

    def prepare_rows(self, rows: Sequence[Any], *, now: datetime) -> None:
        super().prepare_rows(rows, now=now)
        counts = breakers.waiting_counts(breakers=rows)
        for row in rows:
            row.status = status_text.breaker(
                row, waiting=counts[row.pk] if row.state != BreakerState.CLOSED else 0, now=now
            )

    @admin.display(description="lane")
    def name(self, row: Breaker) -> str:
        return list_columns.name_of(row.lane) if row.lane is not None else str(row)

    @admin.display(description="state")
    def badge(self, row: Breaker) -> str:
        return list_columns.status_badge(row.state)

    @admin.display(description="status")
    def status_line(self, row: Any) -> str:
        return list_columns.one_line(row.status)

    @admin.display(description="opened")
    def opened(self, row: Any) -> str:
        return list_columns.moment(row.opened_at, now=row.as_of)

    def why_disabled(self, verb: Verb, row: Any) -> str:
        closed = row.state == BreakerState.CLOSED and row.ramp is None
        return "The breaker is already closed." if verb is RESET and closed else ""

    def page(self, request: HttpRequest, row: Any, *, now: datetime) -> dict[str, Any]:
        waiting = breakers.waiting_counts(breakers=[row])[row.pk]
        lanes = [row.lane_id] if row.lane_id is not None else None
        return {
            "title": f"Breaker of {row}",
            "sentence": status_text.breaker(row, waiting=waiting, now=now),
            "tone": TONES[BreakerState(row.state)],
            "waiting": waiting,
            "rules": breakers.policy_of(row),
            "chart": list_columns.chart_of(charts.load(now=now, range_=Range.SIX_HOURS, lanes=lanes).outcomes),
            "transitions": list(row.transitions.order_by("-id")[:TRANSITIONS_SHOWN]),
            "entries": entries_of(row),
            "is_running": row.state != BreakerState.CLOSED,
        }


@admin.register(BreakerTransition)
class TransitionAdmin(PreparesRows, ReadOnlyScreen):
    list_display = ("number", "breaker_link", "from_badge", "to_badge", "why", "actor", "when")
    list_filter = ("to_state",)
    list_select_related = ("breaker__lane__workflow",)
    search_fields = ("breaker__lane__workflow__slug", "breaker__lane__tenant", "actor")
    ordering = ("-id",)
    sortable_by = ()

    @admin.display(description="number")
    def number(self, row: BreakerTransition) -> int:
        return row.pk

    @admin.display(description="breaker")
    def breaker_link(self, row: BreakerTransition) -> str:
        return list_columns.link_to("reliability.breaker", row.breaker_id, row.breaker)

    @admin.display(description="from")
    def from_badge(self, row: BreakerTransition) -> str:
        return list_columns.status_badge(row.from_state)

    @admin.display(description="to")
    def to_badge(self, row: BreakerTransition) -> str:
        return list_columns.status_badge(row.to_state)

    @admin.display(description="reason")
    def why(self, row: BreakerTransition) -> str:
        return status_text.short(row.reason)

    @admin.display(description="when")
    def when(self, row: Any) -> str:
        return list_columns.moment(row.at, now=row.as_of)
