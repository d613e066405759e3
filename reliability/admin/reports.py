"""What n8n reported: failures, executions, and the retries that it was asked for."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from reliability.models import Execution, ExecutionRetry, FailureReport

from .base import LaneWorkflowFilter, ReadOnlyScreen, as_uuid, pretty


def link(address: str, text: str) -> str:
    """Show an execution's id as a way to n8n, where its address is known."""
    if not address or not text:
        return text or "-"
    return format_html('<a href="{}" target="_blank" rel="noopener noreferrer">{}</a>', address, text)


class ByExecution(ReadOnlyScreen):
    """Found by n8n's id of the execution, or our own."""

    search_fields = ("execution_id",)
    search_help_text = "n8n's id of an execution, or an id"

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> "tuple[QuerySet[Any], bool]":
        if not search_term.strip():
            return queryset, False
        wanted = as_uuid(search_term)
        return queryset.filter(**{"pk": wanted} if wanted else {"execution_id": search_term.strip()}), False


@admin.register(FailureReport)
class FailureReportAdmin(ByExecution):
    list_display = ("id", "n8n_workflow_name", "execution", "state", "error_code", "error", "origin", "reported_at")
    list_filter = ("state", "error_code", "origin", "reported_at")
    fields = (
        *("id", "origin", "state", "tenant", "for_tenant", "execution", "retry_of", "n8n_workflow_id"),
        *("n8n_workflow_name", "status", "mode", "node", "error_code", "error_message", "delivery", "attempt"),
        *("dead_letter", "lookups", "look_up_at", "reported_at", "document"),
    )
    readonly_fields = ("execution", "document")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        found: QuerySet[Any] = super().get_queryset(request)
        one = request.resolver_match is not None and "object_id" in request.resolver_match.kwargs
        return found if one else found.defer("report")

    @admin.display(description="error")
    def error(self, report: FailureReport) -> str:
        return report.error_message[:120]

    @admin.display(description="execution")
    def execution(self, report: FailureReport) -> str:
        return link(report.execution_url, report.execution_id)

    @admin.display(description="report")
    def document(self, report: FailureReport) -> str:
        return pretty(report.report)


@admin.register(Execution)
class ExecutionAdmin(ByExecution):
    list_display = ("execution_id", "lane", "status", "duration_ms", "delivery_id", "reported_at")
    list_filter = ("status", LaneWorkflowFilter, "reported_at")
    list_select_related = ("lane__workflow",)


@admin.register(ExecutionRetry)
class ExecutionRetryAdmin(ByExecution):
    list_display = ("id", "execution_id", "state", "new_execution_id", "dead_letter_id", "looks", "due_at", "error")
    list_filter = ("state", "created_at")
