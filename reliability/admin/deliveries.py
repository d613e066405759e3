"""Deliveries and their attempts."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join

from reliability.models import Attempt, Delivery, Lane
from reliability.pipeline import control

from .base import LaneWorkflowFilter, ReadOnly, ReadOnlyInline, ReadOnlyScreen, WithPayload, as_uuid
from .confirm import ActingScreen, Verb
from .reports import link

CANCEL = Verb("cancel", "Cancel", "deliveries cancelled", control.cancel, "delivery_id")
SEND_NOW = Verb("send_now", "Send now", "deliveries are due now", control.send_now, "delivery_id")


class AttemptInline(ReadOnlyInline):
    model = Attempt
    fields = ("number", "result", "code", "error", "status_code", "started_at", "duration_ms", "probe", "worker")
    readonly_fields = fields
    ordering = ("number",)


@admin.register(Delivery)
class DeliveryAdmin(WithPayload, ReadOnly, ActingScreen):
    verbs = (CANCEL, SEND_NOW)
    list_display = ("id", "lane", "state", "source", "attempt_count", "due_at", "created_at", "finished_at", "error")
    list_filter = ("state", "source", LaneWorkflowFilter, "created_at")
    list_select_related = ("lane__workflow",)
    search_fields = ("id",)
    search_help_text = "An id, or a whole idempotency key"
    inlines = (AttemptInline,)
    fields = (
        *("id", "lane", "idempotency_key", "state", "source", "attempt_count", "retries_used", "due_at", "created_at"),
        *("expires_at", "finished_at", "sent_at", "lease_until", "last_error", "stale", "replay_of", "dead_letter"),
        *("executions_in_n8n", "document"),
    )
    readonly_fields = ("document", "executions_in_n8n", "sent_at", "lease_until")

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> "tuple[QuerySet[Any], bool]":
        """Search by what an index answers: the id, or the key within every lane."""
        if not search_term.strip():
            return queryset, False
        by_key = Q(lane_id__in=list(Lane.objects.values_list("pk", flat=True)), idempotency_key=search_term.strip())
        wanted = as_uuid(search_term)
        return queryset.filter(by_key | Q(pk=wanted) if wanted else by_key), False

    @admin.display(description="executions in n8n")
    def executions_in_n8n(self, delivery: Delivery) -> str:
        """The newest executions that n8n reported for it, with the way there where it is known."""
        addresses = dict(delivery.failure_reports.values_list("execution_id", "execution_url"))
        found = delivery.executions.order_by("-id").values_list("execution_id", "status")[:20]
        shown = [(link(addresses.get(name, ""), name), status) for name, status in found]
        return format_html_join(", ", "{} ({})", shown) or "-"

    @admin.display(description="last error")
    def error(self, delivery: Delivery) -> str:
        return delivery.last_error[:100]


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyScreen):
    list_display = ("delivery_id", "number", "result", "code", "status_code", "started_at", "duration_ms", "probe")
    list_filter = ("result", "probe", "started_at")
    search_fields = ("delivery__id",)
    search_help_text = "A delivery's id"

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> "tuple[QuerySet[Any], bool]":
        if not search_term.strip():
            return queryset, False
        wanted = as_uuid(search_term)
        return (queryset.filter(delivery_id=wanted) if wanted else queryset.none()), False
