"""The Stripe ledger: events, their deliveries, refused requests, and claims."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from reliability.admin.common import list_columns, status_text
from reliability.admin.common.base import PreparesRows, ReadOnlyScreen, WithPayload, as_uuid
from reliability.admin.common.page import PageScreen
from reliability.models import FINAL, DeliveryState, StripeClaim, StripeEvent, StripeRefusal
from reliability.stripe import event_stats
from reliability.stripe.event_stats import EventStats

DASHBOARD = "https://dashboard.stripe.com/"
REPEATS_SHOWN = 50
REASONS = {
    "missing": "The header Stripe-Signature was missing",
    "signature": "No active secret matches the signature",
    "stale": "The signature's timestamp was too old",
    "future": "The signature's timestamp was in the future",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an event's processing; `state` is `passed`, `going`, `failed`, or empty if not reached."""

    title: str
    state: str
    at: datetime | None = None
    note: str = ""


def dashboard(event: StripeEvent) -> str:
    """Return the event's URL in the Stripe dashboard."""
    ours = re.fullmatch(r"acct_[A-Za-z0-9]+", event.account)
    account = f"{event.account}/" if ours else ""
    return f"{DASHBOARD}{account}{'' if event.livemode else 'test/'}events/{quote(event.event_id, safe='')}"


@admin.register(StripeEvent)
class StripeEventAdmin(WithPayload, PreparesRows, PageScreen):
    empty_text = "Events appear here when Stripe sends them to an endpoint."
    page_template = "admin/reliability/screens/event.html"
    texts = ("payload",)
    list_display = ("type", "event", "mode", "created", "lag", "duplicates", "deliveries")
    list_filter = (
        "livemode",
        list_columns.value_filter("type"),
        "source",
        "stale",
        "ignored",
        "endpoint",
        list_columns.time_filter("received_at"),
    )
    list_select_related = ("endpoint",)
    search_fields = ("event_id",)
    search_help_text = "Full event id (evt_…) or object id (in_…, cus_…)"
    ordering = ("-id",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        return super().get_queryset(request).select_related("endpoint", "secret")

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        wanted = as_uuid(term)
        by_name = Q(event_id=term) | (Q(object_id=term) & ~Q(object_id=""))
        return rows.filter(Q(pk=wanted) if wanted else by_name)

    def prepare_rows(self, rows: Sequence[Any], *, now: datetime) -> None:
        super().prepare_rows(rows, now=now)
        found = event_stats.of_events(events=rows)
        for row in rows:
            row.outcome = found[row.pk]

    @admin.display(description="event")
    def event(self, row: StripeEvent) -> str:
        return list_columns.copyable(row.event_id, name="the event id")

    @admin.display(description="mode")
    def mode(self, row: StripeEvent) -> str:
        return list_columns.status_badge("live" if row.livemode else "test", tone="busy" if row.livemode else "off")

    @admin.display(description="created")
    def created(self, row: Any) -> str:
        return list_columns.moment(row.occurred_at, now=row.as_of)

    @admin.display(description="lag")
    def lag(self, row: StripeEvent) -> str:
        return status_text.span(row.received_at - row.occurred_at)

    @admin.display(description="duplicates")
    def duplicates(self, row: Any) -> int:
        return int(row.outcome.repeats)

    @admin.display(description="deliveries")
    def deliveries(self, row: Any) -> str:
        if row.outcome.state:
            return list_columns.status_badge(row.outcome.state)
        return list_columns.muted(row.get_ignored_display() or "none")

    def page(self, request: HttpRequest, row: Any, *, now: datetime) -> dict[str, Any]:
        seen = event_stats.of_events(events=[row])[row.pk]
        return {
            "title": f"Stripe event {row.event_id}",
            "seen": seen,
            "steps": _steps(row, seen),
            "lag": status_text.span(row.received_at - row.occurred_at),
            "dashboard": dashboard(row),
            "repeats": list(row.repeats.order_by("-id")[:REPEATS_SHOWN]),
            "payload_address": self.text_address(row, "payload"),
            "is_running": any(one.state not in FINAL for one in seen.deliveries),
        }


def _steps(row: StripeEvent, seen: EventStats) -> list[Step]:
    """Return the steps: received, verified, stored, delivered."""
    lag = status_text.span(row.received_at - row.occurred_at)
    by_webhook = row.source == "webhook"
    signed = (
        f"signed with the secret …{row.secret.hint}" if row.secret is not None else "signed with the endpoint's secret"
    )
    return [
        Step("Received", "passed", row.received_at, f"{lag} after Stripe created it"),
        Step("Verified", "passed", None, signed if by_webhook else "fetched from Stripe's API by reconciliation"),
        Step("Stored", "passed", None, _stored(row, seen)),
        _delivered(row, seen),
    ]


def _stored(row: StripeEvent, seen: EventStats) -> str:
    duplicates = f"; {seen.repeats:,} duplicate{'' if seen.repeats == 1 else 's'} ignored" if seen.repeats else ""
    stale = "; a newer event about the same object had arrived before" if row.stale else ""
    return f"in the ledger{duplicates}{stale}"


def _delivered(row: StripeEvent, seen: EventStats) -> Step:
    if not seen.deliveries:
        why = row.get_ignored_display() if row.ignored else "no workflow subscribes to this type"
        return Step("Delivered", "", None, f"to no workflow: {why}")
    states = [one.state for one in seen.deliveries]
    done = states.count(DeliveryState.DELIVERED)
    ends = [one.finished_at for one in seen.deliveries if one.finished_at is not None]
    note = f"{done} of {len(states)} workflow{'' if len(states) == 1 else 's'}"
    if DeliveryState.DEAD in states:
        return Step("Delivered", "failed", max(ends, default=None), note)
    passed = done == len(states)
    return Step("Delivered", "passed" if passed else "going", max(ends, default=None) if passed else None, note)


@admin.register(StripeRefusal)
class StripeRefusalAdmin(PreparesRows, ReadOnlyScreen):
    empty_text = "Backstop has refused no Stripe request."
    list_display = ("number", "slug", "why", "address", "count", "when")
    list_filter = ("reason", list_columns.time_filter("at", ordered_by_id=False))
    search_fields = ("slug",)
    search_help_text = "Full endpoint slug"
    ordering = ("-id",)
    sortable_by = ()

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        return rows.filter(slug=term)

    @admin.display(description="number")
    def number(self, row: StripeRefusal) -> int:
        return row.pk

    @admin.display(description="reason")
    def why(self, row: StripeRefusal) -> str:
        return list_columns.two_lines(list_columns.status_badge(row.reason, tone="bad"), REASONS.get(row.reason, ""))

    @admin.display(description="when")
    def when(self, row: Any) -> str:
        return list_columns.moment(row.at, now=row.as_of)


@admin.register(StripeClaim)
class StripeClaimAdmin(PreparesRows, ReadOnlyScreen):
    empty_text = "Workflows that Stripe calls directly claim events through the API."
    list_display = ("event_id", "workflow", "tenant", "badge", "fencing_token", "lease_end", "holder", "created")
    list_filter = ("status", "livemode", list_columns.time_filter("created_at"))
    search_fields = ("event_id",)
    search_help_text = "Full event id"
    ordering = ("-id",)
    sortable_by = ()

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        return rows.filter(event_id=term)

    @admin.display(description="status")
    def badge(self, row: StripeClaim) -> str:
        return list_columns.status_badge(row.status)

    @admin.display(description="lease ends")
    def lease_end(self, row: Any) -> str:
        return list_columns.moment(row.lease_until, now=row.as_of)

    @admin.display(description="claimed")
    def created(self, row: Any) -> str:
        return list_columns.moment(row.created_at, now=row.as_of)
