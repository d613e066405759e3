"""Bulk operations: the list, the page that shows one's progress, and its controls."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.db.models import DateTimeField, QuerySet, Value
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from reliability.admin.common.base import ReadOnlyScreen, actor_of, as_uuid
from reliability.admin.common.confirm import ReasonForm
from reliability.bulk import candidates, operations
from reliability.core import clock
from reliability.errors import BackstopError
from reliability.models import AuditEntry, Operation, OperationKind, OperationState
from reliability.policies import bulk as policy
from reliability.policies.error_codes import reason_label
from reliability.templatetags.console import moment, status_badge

from . import submit

CONTROL = "reliability.control_operation"
# The filter's field names as query parameters of the dead-letter list.
ADDRESS = {"status": "status__exact", "created_after": "after", "created_before": "before", "search": "q"}
NAMES = {
    "error_code": "code",
    "created_after": "first failed after",
    "created_before": "first failed before",
    "operation": "purged by",
}
Act = Callable[..., Operation | None]
# A button's value in the form: the function that it calls, and the permission that it needs.
VERBS: dict[str, tuple[Act, str]] = {
    "pause": (operations.pause, CONTROL),
    "resume": (operations.resume, CONTROL),
    "cancel": (operations.cancel, CONTROL),
    "rate": (operations.set_rate, CONTROL),
    "undo": (operations.undo_purge, submit.PURGE.permission),
}


class RateForm(ReasonForm):
    rate = forms.FloatField(
        label="Replays per second",
        min_value=operations.LOWEST_RATE,
        max_value=operations.HIGHEST_RATE,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )


@admin.register(Operation)
class OperationAdmin(ReadOnlyScreen):
    empty_text = "To start one, filter the dead letters and choose “Replay all matches” or “Purge all matches”."
    list_display = ("started", "kind", "badge", "filter_text", "progress", "outcome", "actor", "reason")
    list_display_links = ("started",)
    list_filter = ("kind", "state")
    search_fields = ("id",)
    search_help_text = "Operation id or actor"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Operation]":
        found = super().get_queryset(request).annotate(asked_at=Value(clock.now(), DateTimeField()))
        return found.prefetch_related("tallies")  # type: ignore[no-any-return]  # Unfold has no types

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any]":
        wanted = as_uuid(term)
        return rows.filter(pk=wanted) if wanted else rows.filter(actor__icontains=term)

    def get_urls(self) -> list[URLPattern]:
        """Add this screen's own pages. Each checks its permissions itself."""
        wrap = self.admin_site.admin_view
        return [
            path("replay/", wrap(submit.replay), name="reliability_bulk_replay"),
            path("purge/", wrap(submit.purge), name="reliability_bulk_purge"),
            path("<uuid:operation_id>/", wrap(self.page), name="reliability_operation_page"),
            path("<uuid:operation_id>/control/", wrap(self.control), name="reliability_operation_control"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the operation's page; operations have no form."""
        wanted = as_uuid(object_id)
        if wanted is None:
            raise Http404
        return self.page(request, wanted)

    def page(self, request: HttpRequest, operation_id: UUID, form: ReasonForm | None = None) -> HttpResponse:
        """Show an operation's progress; the page updates itself while the operation runs."""
        submit.require_permission(request, "reliability.view_operation")
        operation = Operation.objects.filter(pk=operation_id).first()
        if operation is None:
            raise Http404
        context = {
            **self.admin_site.each_context(request),
            "title": operation.get_kind_display(),
            "opts": self.opts,
            "form": form or RateForm(initial={"rate": operation.rate_per_second}),
            "may": {verb: request.user.has_perm(permission) for verb, (_, permission) in VERBS.items()},
            **progress_values(operation),
        }
        return TemplateResponse(request, "admin/reliability/operation.html", context, status=400 if form else 200)

    def control(self, request: HttpRequest, operation_id: UUID) -> HttpResponse:
        """Pause, resume, cancel, change the rate or undo: by POST, with a reason.

        If the session ended meanwhile, the sign-in page redirects here by GET: nothing is done, and a message says so.
        """
        page = HttpResponseRedirect(reverse("admin:reliability_operation_page", args=[operation_id]))
        if request.method != "POST":
            messages.warning(request, "Nothing was changed. Submit it again.")
            return page
        verb = request.POST.get("verb", "")
        if verb not in VERBS:
            raise Http404
        act, permission = VERBS[verb]
        submit.require_permission(request, permission)
        if not Operation.objects.filter(pk=operation_id).exists():
            raise Http404("This operation does not exist.")
        form = RateForm(request.POST) if verb == "rate" else ReasonForm(request.POST)
        if not form.is_valid():
            return self.page(request, operation_id, _with_rate(form, operation_id))
        values = {"rate_per_second": form.cleaned_data["rate"]} if verb == "rate" else {}
        actor = actor_of(request, form.cleaned_data["reason"])
        try:
            done = act(operation_id=operation_id, actor=actor, now=clock.now(), **values)
        except BackstopError as refusal:
            messages.error(request, str(refusal))
            return page
        return HttpResponseRedirect(reverse("admin:reliability_operation_page", args=[done.pk])) if done else page

    @admin.display(description="started", ordering="id")
    def started(self, one: Any) -> str:
        return moment(one.created_at, now=one.asked_at)

    @admin.display(description="state", ordering="state")
    def badge(self, one: Operation) -> str:
        return status_badge(one.state)

    @admin.display(description="filter")
    def filter_text(self, one: Operation) -> str:
        return ", ".join(f"{name} {value}" for name, value in filter_labels(one)) or "all dead letters"

    @admin.display(description="progress")
    def progress(self, one: Operation) -> str:
        skipped = f", {one.skipped:,} skipped" if one.skipped else ""
        return f"{one.done:,} of {one.matched:,}{skipped}"

    @admin.display(description="outcome")
    def outcome(self, one: Operation) -> str:
        if one.kind != OperationKind.REPLAY:
            return "—"
        recovered, failed = (
            sum(getattr(tally, name) for tally in one.tallies.all()) for name in ("recovered", "failed")
        )
        return f"{recovered:,} recovered, {failed:,} failed again"


def filter_labels(operation: Operation) -> list[tuple[str, str]]:
    """Return the frozen filter as pairs of label and value."""
    words = {**operation.filter}
    if "reason" in words:
        words["reason"] = reason_label(words["reason"]) or words["reason"]
    return [(NAMES.get(name, name), str(value)) for name, value in words.items()]


def progress_values(operation: Operation) -> dict[str, Any]:
    """Return the template's values about an operation's progress."""
    now, ends = clock.now(), operation.ends
    handled = operation.done + operation.skipped
    left = max(0, operation.matched - handled)
    is_replay = operation.kind == OperationKind.REPLAY
    in_flight = max(0, operation.done - ends.total) if is_replay else 0
    is_open = operation.state in operations.OPEN
    entries = AuditEntry.objects.filter(target_type="operation", target_id=str(operation.pk)).order_by("-id")
    return {
        "operation": operation,
        "now": now,
        "is_replay": is_replay,
        "is_open": is_open,
        "ends": ends,
        "in_flight": in_flight,
        "handled": min(handled, operation.matched),
        "left": left,
        "percent": 100 if not operation.matched else min(100, handled * 100 // operation.matched),
        "seconds": policy.seconds(count=left, rate_per_second=operation.rate_per_second) if is_replay else None,
        "is_active": operation.state == OperationState.RUNNING or bool(operation.next_at or in_flight),
        "waiting_for": _waiting_for(operation, left),
        "filter": filter_labels(operation),
        "skipped": [(candidates.LABELS.get(cause, cause), n) for cause, n in operation.skipped_by.items()],
        "dead_letter_list": _dead_letter_list(operation),
        "undoable": _undoable(operation, now),
        "entries": entries[:10],
    }


def _waiting_for(operation: Operation, left: int) -> str:
    """Return what a running operation waits for, other than its rate."""
    if operation.state != OperationState.RUNNING or operation.next_at is not None or not operation.done:
        return ""
    return "Waiting for the canary to finish" if left else "All queued; waiting for the last replays to finish"


def _dead_letter_list(operation: Operation) -> str:
    """Return the URL of the dead-letter list with the operation's filter, for all statuses."""
    if operation.kind == OperationKind.RESTORE:
        return ""
    named = {ADDRESS.get(name, name): value for name, value in operation.filter.items()}
    return f"{reverse('admin:reliability_deadletter_changelist')}?{urlencode({**named, 'status__exact': 'all'})}"


def _undoable(operation: Operation, now: Any) -> int:
    if operation.kind != OperationKind.PURGE or operation.state in operations.OPEN:
        return 0
    return operations.undoable(operation=operation, now=now)


def _with_rate(form: ReasonForm, operation_id: UUID) -> RateForm:
    """Return the page's form with the submitted values and their errors."""
    rate = (
        form.data.get("rate") or Operation.objects.filter(pk=operation_id).values_list("rate_per_second", flat=True)[0]
    )
    shown = RateForm({"reason": form.data.get("reason", ""), "rate": rate})
    shown.is_valid()
    return shown
