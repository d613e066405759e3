"""The list of dead letters, paged by id instead of offset, so that the last page is as fast as the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.urls import reverse
from unfold.views import ChangeList

from reliability.admin.common.base import as_uuid
from reliability.core import clock
from reliability.models import (
    Breaker,
    BreakerState,
    DeadLetter,
    DeadLetterSource,
    DeadLetterStatus,
    Lane,
    StripeEvent,
    Workflow,
)
from reliability.policies.error_codes import Reason, reason_label

from .url_filter import ALL, STATUS, Reading, filter_labels, read

PAGE = 50
COUNT_LIMIT = 10_000
PILLS = (*DeadLetterStatus.choices, (ALL, "All"))
CHOICES_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the list. `what` is the sender's own id (key or execution), `kind` a Stripe event's type."""

    letter: DeadLetter
    what: str
    kind: str
    source: str
    reason: str
    tries: int


class DeadLetterChangeList(ChangeList):
    """Pages by the parameters `next` and `prev`, which are ids. It counts up to `COUNT_LIMIT` and no further."""

    reading: Reading
    shown: "list[Row]"
    is_cut: bool
    next_address: str
    previous_address: str

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> "QuerySet[DeadLetter]":
        self.reading = read(request.GET)
        self.filter_specs: list[Any] = []
        self.has_filters = self.has_active_filters = False
        self.clear_all_filters_qs = "?"
        every: QuerySet[DeadLetter] = self.root_queryset
        found = None if self.reading.problems else self.reading.selection.found()
        self.is_cut = found is not None and found.is_truncated
        wanted = every.filter(found.condition) if found is not None else every.none()
        return wanted.order_by("id" if self.reading.oldest_first else "-id")

    def get_results(self, request: HttpRequest) -> None:
        following, preceding = _cursor(request.GET, "next"), _cursor(request.GET, "prev")
        rows, is_more = _page(self.queryset, self.reading.oldest_first, following, preceding)
        # The page that this one was reached from exists, or existed: offer the way back to it.
        is_next, is_previous = is_more or bool(preceding), bool(following)
        if preceding:
            is_previous = is_more
        self.next_address = self._step("next", rows[-1]) if rows and is_next else ""
        self.previous_address = self._step("prev", rows[0]) if rows and is_previous else ""
        self._set_results(rows)

    def _step(self, name: str, letter: DeadLetter) -> str:
        return "?" + self.reading.address(**{name: str(letter.pk)})

    def _set_results(self, rows: "list[DeadLetter]") -> None:
        self.result_list = rows
        self.is_first = not self.previous_address
        self.result_count = len(rows)
        if self.next_address or self.previous_address:
            self.result_count = int(self.queryset.order_by()[: COUNT_LIMIT + 1].count())
        self.full_result_count = self.result_count
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = False
        self.multi_page = bool(self.next_address or self.previous_address)
        self.paginator = self.model_admin.get_paginator(None, rows, PAGE)
        self.shown = _rows(rows)

    @property
    def count_in_words(self) -> str:
        """The number of matches, up to `COUNT_LIMIT`."""
        if self.reading.problems or not self.result_list:
            return ""
        if self.result_count > COUNT_LIMIT:
            return f"More than {COUNT_LIMIT:,}"
        return f"{self.result_count:,} dead letter{'' if self.result_count == 1 else 's'}"


def _cursor(params: QueryDict, name: str) -> Any:
    """Return the id that a page starts after; `None`, the first page, if the parameter is not an id."""
    return as_uuid(params.get(name, ""))


def _page(
    found: "QuerySet[DeadLetter]", oldest_first: bool, following: Any, preceding: Any
) -> "tuple[list[DeadLetter], bool]":
    """Return a page of rows, and whether more follow in the requested direction."""
    order = "id" if oldest_first else "-id"
    if preceding:
        order = order.removeprefix("-") if order.startswith("-") else f"-{order}"
        found = found.filter(**{"pk__gt" if order == "id" else "pk__lt": preceding})
    elif following:
        found = found.filter(**{"pk__gt" if order == "id" else "pk__lt": following})
    rows = list(found.order_by(order)[: PAGE + 1])
    is_more, rows = len(rows) > PAGE, rows[:PAGE]
    return (rows[::-1] if preceding else rows), is_more


def _rows(found: "Sequence[DeadLetter]") -> list[Row]:
    keys = [one.delivery.idempotency_key for one in found if one.delivery and one.delivery.source == "stripe"]
    events = StripeEvent.objects.filter(event_id__in=keys).values_list("event_id", "type") if keys else []
    return [_row(one, dict(events)) for one in found]


def _row(letter: DeadLetter, kinds: dict[str, str]) -> Row:
    key = letter.delivery.idempotency_key if letter.delivery else ""
    return Row(
        letter=letter,
        what=key or letter.execution_id or str(letter.pk),
        kind=kinds.get(key, ""),
        source=letter.get_source_display(),
        reason=reason_label(letter.reason),
        tries=letter.retry_count + (1 if letter.delivery_id or letter.execution_id else 0),
    )


def context(request: HttpRequest, reading: Reading) -> dict[str, Any]:
    """Return the template's values around the rows: filters, pills, chips, open breakers, bulk actions."""
    breakers = Breaker.objects.exclude(state=BreakerState.CLOSED).select_related("lane__workflow")
    workflows = Workflow.objects.values_list("slug", "name")[:CHOICES_SHOWN]
    return {
        "reading": reading,
        "now": clock.now(),
        "pills": [(label, f"?{reading.address(**{STATUS: value})}", value == reading.status) for value, label in PILLS],
        "chips": [(what, words, f"?{reading.address(**{name: None})}") for name, what, words in filter_labels(reading)],
        "turned": f"?{reading.address(order=None if reading.oldest_first else 'oldest')}",
        "cleared": f"?{STATUS}={reading.status}",
        "open_breakers": list(breakers[:3]),
        "workflows": workflows,
        "tenants": Lane.objects.order_by("tenant").values_list("tenant", flat=True).distinct()[:CHOICES_SHOWN],
        "reasons": [(str(reason), reason.label) for reason in Reason],
        "sources": DeadLetterSource.choices,
        "bulk_replay": bulk_address("replay", reading),
        "bulk_purge": bulk_address("purge", reading),
    }


def bulk_address(kind: str, reading: Reading) -> str:
    """Return the URL of the bulk page for the filter; empty if the filter is invalid or its status cannot be dead."""
    if reading.problems or reading.status not in (DeadLetterStatus.DEAD, ALL):
        return ""
    where = reverse(f"admin:reliability_bulk_{kind}")
    return f"{where}?{reading.address(**{'order': None, STATUS: None})}"
