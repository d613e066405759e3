"""Failures and executions that n8n reported, and the execution retries that Backstop requested."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from reliability.admin.common import list_columns, status_text
from reliability.admin.common.base import LaneWorkflowFilter, PreparesRows, ReadOnlyScreen, as_uuid
from reliability.admin.common.page import PageScreen
from reliability.models import Execution, ExecutionRetry, FailureReport


def link(address: str, text: str) -> str:
    """Return an execution's id as a link into n8n, or as text if its address is unknown."""
    if not address or not text:
        return text or "-"
    return format_html('<a href="{}" target="_blank" rel="noopener noreferrer">{}</a>', address, text)


class ExecutionScreen(PreparesRows, ReadOnlyScreen):
    """A list that is searched by n8n's execution id or by the row's own id."""

    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("execution_id",)
    search_help_text = "n8n execution id or row id"

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        wanted = as_uuid(term)
        return rows.filter(**{"pk": wanted} if wanted else {"execution_id": term})


@admin.register(FailureReport)
class FailureReportAdmin(ExecutionScreen, PageScreen):
    empty_text = "n8n reports failures through its Error Trigger; reconciliation finds those that it missed."
    page_template = "admin/reliability/screens/report.html"
    texts = ("report",)
    list_display = ("workflow_name", "badge", "execution", "error", "outcome", "origin", "when")
    list_filter = ("state", list_columns.value_filter("error_code"), list_columns.time_filter("reported_at"))

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        found: QuerySet[Any] = super().get_queryset(request)
        one = request.resolver_match is not None and "object_id" in request.resolver_match.kwargs
        return found if one else found.defer("report")

    @admin.display(description="workflow in n8n")
    def workflow_name(self, report: FailureReport) -> str:
        return status_text.short(report.n8n_workflow_name) or str(report.pk)

    @admin.display(description="state")
    def badge(self, report: FailureReport) -> str:
        return list_columns.status_badge(report.state)

    @admin.display(description="error")
    def error(self, report: FailureReport) -> str:
        return list_columns.two_lines(report.error_code or "—", status_text.short(report.error_message))

    @admin.display(description="execution")
    def execution(self, report: FailureReport) -> str:
        return link(report.execution_url, report.execution_id)

    @admin.display(description="outcome")
    def outcome(self, report: FailureReport) -> str:
        if report.dead_letter_id is not None:
            return list_columns.link_to("reliability.deadletter", report.dead_letter_id, "dead letter")
        return list_columns.link_to("reliability.delivery", report.delivery_id, "delivery") or "—"

    @admin.display(description="reported")
    def when(self, report: Any) -> str:
        return list_columns.moment(report.reported_at, now=report.as_of)

    def page(self, request: HttpRequest, row: Any, *, now: datetime) -> dict[str, Any]:
        return {
            "title": f"Failure of execution {row.execution_id or '(not started)'}",
            "execution": link(row.execution_url, row.execution_id),
            "report_address": self.text_address(row, "report"),
        }


@admin.register(Execution)
class ExecutionAdmin(ExecutionScreen):
    empty_text = "Executions appear here when n8n reports them."
    list_display = ("execution_id", "lane_name", "badge", "duration", "delivery_link", "when")
    list_filter = ("status", LaneWorkflowFilter, list_columns.time_filter("reported_at"))
    list_select_related = ("lane__workflow",)

    @admin.display(description="workflow")
    def lane_name(self, row: Execution) -> str:
        return list_columns.name_of(row.lane)

    @admin.display(description="status")
    def badge(self, row: Execution) -> str:
        return list_columns.status_badge(row.status)

    @admin.display(description="duration")
    def duration(self, row: Execution) -> str:
        return status_text.span(timedelta(milliseconds=row.duration_ms) if row.duration_ms is not None else None)

    @admin.display(description="delivery")
    def delivery_link(self, row: Execution) -> str:
        return list_columns.link_to("reliability.delivery", row.delivery_id, "delivery") or "—"

    @admin.display(description="reported")
    def when(self, row: Any) -> str:
        return list_columns.moment(row.reported_at, now=row.as_of)


@admin.register(ExecutionRetry)
class ExecutionRetryAdmin(ExecutionScreen):
    empty_text = "An execution retry starts from a dead letter that n8n reported."
    list_display = ("execution_id", "badge", "new_execution_id", "dead_letter_link", "looks", "next_check", "error")
    list_filter = ("state", list_columns.time_filter("created_at"))

    @admin.display(description="state")
    def badge(self, row: ExecutionRetry) -> str:
        return list_columns.status_badge(row.state)

    @admin.display(description="dead letter")
    def dead_letter_link(self, row: ExecutionRetry) -> str:
        return list_columns.link_to("reliability.deadletter", row.dead_letter_id, "dead letter")

    @admin.display(description="next check")
    def next_check(self, row: Any) -> str:
        return list_columns.moment(None if row.finished_at else row.due_at, never="ended", now=row.as_of)
