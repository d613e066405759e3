"""Formatting for list columns: times, states, ids with a copy button, links to other rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from reliability.core import clock
from reliability.models import Lane
from reliability.models.ids import at_least
from reliability.stats.charts import Chart, Range
from reliability.templatetags.console import copyable, moment, status_badge

# A value filter offers the values of this many of the newest rows.
SAMPLED_ROWS = 2_000
__all__ = ["TimeFilter", "copyable", "link_to", "moment", "muted", "status_badge", "two_lines"]


def two_lines(first: Any, second: Any) -> str:
    """Show a main line and, below it in smaller type, a second line."""
    return format_html('<span class="bs-first-line">{}</span><span class="bs-second">{}</span>', first, second)


def name_of(lane: Lane) -> str:
    """Show a lane as its workflow, with the tenant below it."""
    html = '<span class="bs-name">{}<span class="bs-second">{}</span></span>'
    return format_html(html, lane.workflow.slug, lane.tenant)


def muted(text: Any) -> str:
    return format_html('<span class="bs-quiet">{}</span>', text)


def copy_button(text: str, name: str) -> str:
    return copyable(text, shown=" ", name=name)


def link_to(model: str, pk: Any, text: Any = "") -> str:
    """Return a link to a row; `model` is a label such as `reliability.delivery`."""
    if pk is None:
        return ""
    where = reverse(f"admin:{model.replace('.', '_')}_change", args=[pk])
    return format_html('<a class="bs-link" href="{}">{}</a>', where, text or pk)


def link_to_list(model: str, text: Any, **filters: str) -> str:
    """Return a link to a filtered list."""
    name = model.replace(".", "_")
    where = f"{reverse(f'admin:{name}_changelist')}?{urlencode(filters)}"
    return format_html('<a class="bs-link" href="{}">{}</a>', where, text)


class TimeFilter(admin.SimpleListFilter):
    """Filters by age, through the ids, which are ordered by time. An unknown range matches nothing."""

    title = "time"
    parameter_name = "range"
    # The time column, for rows whose ids are not ordered by time.
    column = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(one), f"Last {one}") for one in Range]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        if self.value() is None:
            return queryset
        span = next((one.span for one in Range if one == self.value()), None)
        return queryset.none() if span is None else self.since(queryset, clock.now() - span)

    def since(self, queryset: "QuerySet[Any]", start: datetime) -> "QuerySet[Any]":
        bound = {"pk__gte": at_least(start)} if not self.column or self.column.startswith("-") else {}
        return queryset.filter(**bound, **({f"{self.column.lstrip('-')}__gte": start} if self.column else {}))


class ValueFilter(admin.SimpleListFilter):
    """Filters by a column's value. It offers those of the newest rows: all of them would need a full scan."""

    column = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = model_admin.model._default_manager.order_by("-pk").values_list(self.column, flat=True)[:SAMPLED_ROWS]
        return [(one, one) for one in sorted({str(one) for one in newest if one})]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        return queryset if self.value() is None else queryset.filter(**{self.column: self.value()})

    def has_output(self) -> bool:
        return True


def value_filter(name: str) -> type[ValueFilter]:
    """Return the filter for a column of many values."""
    values = {"column": name, "parameter_name": name, "title": name.replace("_", " ")}
    return type("ValueFilter", (ValueFilter,), values)


def time_filter(name: str, *, ordered_by_id: bool = True) -> type[TimeFilter]:
    """Return the filter for a time column; with time-ordered ids, the primary key narrows the scan."""
    return type("TimeFilter", (TimeFilter,), {"column": f"-{name}" if ordered_by_id else name})


def one_line(text: Any) -> str:
    return format_html('<span class="bs-first-line">{}</span>', text)


@dataclass(frozen=True, slots=True)
class ChartData:
    """A chart's data for the script, and the same data as rows of a table for those who cannot see the chart."""

    data: dict[str, Any]
    headings: list[str]
    rows: list[tuple[str, list[Any]]]


def chart_of(found: Chart, *, kind: str = "bar", tones: Sequence[str] = ("good", "bad")) -> ChartData | None:
    """Return a chart's data, or `None` if it is empty."""
    if found.is_empty:
        return None
    labels = [f"{at.astimezone(UTC):%H:%M}" for at in found.labels]
    datasets = [
        {"label": one.label, "data": list(one.values), "tone": tone}
        for one, tone in zip(found.datasets, tones, strict=False)
    ]
    lines = [(label, [one.values[place] for one in found.datasets]) for place, label in enumerate(labels)]
    data = {"labels": labels, "datasets": datasets, "type": kind, "stacked": True}
    return ChartData(data, [one.label for one in found.datasets], [line for line in lines if any(line[1])])
