"""Deliveries and their attempts: the state of each, and what it waits for."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from reliability.admin.common import list_columns, status_text
from reliability.admin.common.base import LaneWorkflowFilter, PreparesRows, ReadOnlyScreen, WithPayload, as_uuid
from reliability.admin.common.confirm import Verb
from reliability.admin.common.page import PageScreen, entries_of
from reliability.admin.n8n.reports import link
from reliability.dead_letters import filters
from reliability.delivery import control
from reliability.lanes import wait_reasons
from reliability.models import Attempt, DeadLetter, Delivery, DeliveryState, Source

CANCEL = Verb("cancel", "Cancel delivery", "cancelled", control.cancel, "delivery_id")
SEND_NOW = Verb("send_now", "Send now", "due now", control.send_now, "delivery_id")
ATTEMPTS_SHOWN, RELATED_SHOWN = 50, 20


@admin.register(Delivery)
class DeliveryAdmin(WithPayload, PreparesRows, PageScreen):
    empty_text = "Send one through the API, a cron job or a Stripe webhook."
    verbs = (SEND_NOW, CANCEL)
    page_template = "admin/reliability/screens/delivery.html"
    texts = ("payload",)
    list_display = ("key", "copy_id", "lane_name", "badge", "status_line", "source", "attempts_made", "created")
    list_filter = ("state", "source", LaneWorkflowFilter, list_columns.time_filter("created_at"))
    list_select_related = ("lane__workflow", "lane__breaker")
    search_fields = ("id",)
    search_help_text = "Delivery id, full idempotency key or request id"
    ordering = ("-id",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        return super().get_queryset(request).select_related("lane__workflow", "lane__breaker")

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        """Search by id, key or request through indexes; the id of an original finds its replays, too."""
        wanted = as_uuid(term)
        ids = [*filters.deliveries_of(key=term), *([wanted] if wanted else [])]
        return rows.filter(Q(pk__in=ids) | Q(replay_of_id__in=ids) | filters.requested_by(request_id=term))

    def prepare_rows(self, rows: Sequence[Any], *, now: datetime) -> None:
        super().prepare_rows(rows, now=now)
        found = wait_reasons.of(deliveries=rows, now=now)
        for row in rows:
            row.status = status_text.delivery(row, found=found.get(row.pk), now=now)

    @admin.display(description="key")
    def key(self, row: Delivery) -> str:
        return status_text.short(row.idempotency_key)

    @admin.display(description="workflow")
    def lane_name(self, row: Delivery) -> str:
        return list_columns.name_of(row.lane)

    @admin.display(description="state")
    def badge(self, row: Delivery) -> str:
        return list_columns.status_badge(row.state)

    @admin.display(description="status")
    def status_line(self, row: Any) -> str:
        return list_columns.two_lines(row.status, status_text.short(row.last_error))

    @admin.display(description="attempts")
    def attempts_made(self, row: Delivery) -> int:
        return row.attempt_count

    @admin.display(description="accepted")
    def created(self, row: Any) -> str:
        return list_columns.moment(row.created_at, now=row.as_of)

    @admin.display(description="id")
    def copy_id(self, row: Delivery) -> str:
        return list_columns.copyable(row.pk, shown=" ", name="the delivery id")

    def why_disabled(self, verb: Verb, row: Any) -> str:
        if row.state == DeliveryState.PENDING:
            return ""
        return f"Only for pending deliveries; this one is {DeliveryState(row.state).label.lower()}."

    def page(self, request: HttpRequest, row: Any, *, now: datetime) -> dict[str, Any]:
        found = wait_reasons.of(deliveries=[row], now=now).get(row.pk)
        wait = found if found is not None and found.on is not None else None
        return {
            "sentence": status_text.delivery(row, found=found, now=now),
            "wait_address": _wait_url(wait) if wait else "",
            "attempts": _with_waits(list(row.attempts.order_by("-id")[: ATTEMPTS_SHOWN + 1])),
            "dead_letters": list(
                DeadLetter.objects.defer("payload").filter(Q(delivery=row) | Q(pk=row.dead_letter_id))
            ),
            "replays": list(row.replays.defer("payload").order_by("-id")[:RELATED_SHOWN]),
            "executions": _executions(row),
            "waiting_runs": _waiting_runs(row),
            "entries": entries_of(row),
            "payload_address": self.text_address(row, "payload"),
            "is_running": row.state not in ("delivered", "dead", "cancelled", "skipped"),
        }


def _wait_url(found: wait_reasons.Wait) -> str:
    model = "delivery" if found.cause is wait_reasons.Cause.HELD else "breaker"
    return reverse(f"admin:reliability_{model}_change", args=[found.on])


def _with_waits(found: list[Attempt]) -> list[tuple[Attempt, timedelta | None]]:
    """Return attempts, newest first, each with the wait since the previous attempt ended."""
    waits = [new.started_at - old.started_at - timedelta(milliseconds=old.duration_ms) for new, old in pairwise(found)]
    lasts: list[timedelta | None] = [max(timedelta(), one) for one in waits]
    return list(zip(found, [*lasts, None], strict=False))[:ATTEMPTS_SHOWN]


def _waiting_runs(row: Delivery) -> list[Any]:
    """Return the runs that wait for this delivery to end. Only runs of cron jobs wait for each other."""
    if row.source != Source.CRON:
        return []
    return list(Delivery.objects.filter(waits_for=row.pk).values_list("pk", flat=True)[:RELATED_SHOWN])


def _executions(row: Delivery) -> list[tuple[str, str]]:
    """Return the newest executions that n8n reported, each as a link into n8n if its address is known."""
    found = list(row.executions.order_by("-id").values_list("execution_id", "status")[:RELATED_SHOWN])
    addresses = dict(row.failure_reports.values_list("execution_id", "execution_url")) if found else {}
    return [(link(addresses.get(name, ""), name), status) for name, status in found]


@admin.register(Attempt)
class AttemptAdmin(PreparesRows, ReadOnlyScreen):
    list_display = ("number", "delivery_link", "outcome", "response", "started", "duration", "probe")
    list_filter = ("result", "probe")
    search_fields = ("delivery__id",)
    search_help_text = "Delivery id"
    ordering = ("-id",)
    sortable_by = ()

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        wanted = as_uuid(term)
        return rows.filter(delivery_id=wanted) if wanted else rows.none()

    @admin.display(description="delivery")
    def delivery_link(self, row: Attempt) -> str:
        return list_columns.link_to("reliability.delivery", row.delivery_id)

    @admin.display(description="result")
    def outcome(self, row: Attempt) -> str:
        return list_columns.status_badge(row.result)

    @admin.display(description="response")
    def response(self, row: Attempt) -> str:
        return list_columns.two_lines(row.status_code or row.code or "—", status_text.short(row.error))

    @admin.display(description="started")
    def started(self, row: Any) -> str:
        return list_columns.moment(row.started_at, now=row.as_of)

    @admin.display(description="duration")
    def duration(self, row: Attempt) -> str:
        return status_text.span(timedelta(milliseconds=row.duration_ms))
