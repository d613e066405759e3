"""What all screens of the console share: read-only lists with a capped count, and JSON display."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.paginator import Paginator
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.html import conditional_escape, format_html
from unfold.admin import ModelAdmin, TabularInline
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextInputWidget

from reliability.core import clock
from reliability.core.audit import Actor

COUNT_LIMIT = 10_000
SHOWN_LIMIT = 100_000


class AtLeast(int):
    """A count that stopped at its cap; it prints as `10,000+`."""

    def __str__(self) -> str:
        return f"{int(self):,}+"


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # generic for the type checker alone
    """Counts up to `COUNT_LIMIT`: a full count takes most of the time that a list of millions needs."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        found = int(rows.order_by()[: COUNT_LIMIT + 1].count())
        return found if found <= COUNT_LIMIT else AtLeast(COUNT_LIMIT)


class ReadOnly:
    """A model that only Backstop itself writes: no add, change or delete in the console."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Screen(ModelAdmin):
    """A list with a capped count and 50 rows per page."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_max_show_all = 0
    list_per_page = 50
    list_fullwidth = True
    # What an empty list says: where its rows come from, or what to do.
    empty_text = ""
    compressed_fields = True
    # A model's TextField is one line of text unless a form says otherwise.
    formfield_overrides = {models.TextField: {"widget": UnfoldAdminTextInputWidget}}

    class Media:
        css = {"all": ("reliability/screens.css",)}

    def may(self, request: HttpRequest, verb: str) -> bool:
        """Whether the user has the model's permission of that name."""
        return request.user.has_perm(f"{self.opts.app_label}.{verb}_{self.opts.model_name}")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def is_invalid_query(self, params: QueryDict) -> bool:
        """Whether the query string holds a NUL character, which PostgreSQL cannot store and Django would send to it."""
        return any("\x00" in text for name, values in params.lists() for text in (name, *values))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        if self.is_invalid_query(request.GET):
            raise IncorrectLookupParameters
        return super().get_changelist_instance(request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list. Django redirects an invalid filter to `?e=1`; that matches nothing and shows an error."""
        if ERROR_FLAG in request.GET:
            text = (
                "The filter or page in this link is invalid, so the list is empty. Clear the filters to see all rows."
            )
            messages.error(request, text)
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Return a form's field with its help text escaped: Unfold prints help texts as HTML, ours are plain text."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None:
            field.help_text = conditional_escape(field.help_text)
        return field

    def search_by_index(self, rows: "QuerySet[Any]", term: str) -> "QuerySet[Any] | None":
        """Return the rows that a term finds by an index; `None` leaves the search to `search_fields`."""
        return None

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> "tuple[QuerySet[Any], bool]":
        term = search_term.strip()
        if ERROR_FLAG in request.GET or "\x00" in term:  # NUL: also in an autocomplete request
            return queryset.none(), False
        if not term:
            return queryset, False
        found = self.search_by_index(queryset, term)
        if found is not None:
            return found, False
        fallback: tuple[QuerySet[Any], bool] = super().get_search_results(request, queryset, search_term)
        return fallback


class ReadOnlyScreen(ReadOnly, Screen):
    """A read-only screen; only its actions change anything."""


class PreparedChangeList(ChangeList):
    """A change list that loads what the columns need beyond the row, once per page instead of once per row."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: list[Any] = list(self.result_list)  # type: ignore[has-type]  # the parent's
        self.model_admin.prepare_rows(rows, now=clock.now())
        self.result_list = rows


class PreparesRows:
    """Mixin for a screen whose columns need more than the row holds; `prepare_rows` loads it for all rows of a page."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PreparedChangeList

    def prepare_rows(self, rows: Sequence[Any], *, now: datetime) -> None:
        """Set what the columns show as attributes on each row."""
        for row in rows:
            row.as_of = now


class WithPayload:
    """Mixin for rows with a payload, which may be large: lists do not load it, the detail page shows it indented."""

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        found: QuerySet[Any] = super().get_queryset(request)  # type: ignore[misc]  # the screen's
        one = request.resolver_match is not None and "object_id" in request.resolver_match.kwargs
        return found if one else found.defer("payload")

    @admin.display(description="payload")
    def document(self, row: Any) -> str:
        return pretty(row.payload)


class ReadOnlyInline(ReadOnly, TabularInline):
    """Related rows, shown read-only on the page of the row that they belong to."""

    extra = 0
    max_num = 0
    show_change_link = True


def actor_of(request: HttpRequest, reason: str = "") -> Actor:
    """Return the signed-in user as the actor of an action, for the audit log."""
    return Actor(name=f"user:{request.user.get_username()}", reason=reason)


def pretty(text: str) -> str:
    """Show JSON text indented, escaped, and cut where it is very long."""
    try:
        shown = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        shown = text
    cut = shown[:SHOWN_LIMIT] + ("\n… (cut here)" if len(shown) > SHOWN_LIMIT else "")
    style = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:32rem;overflow:auto;font-size:0.8rem"
    return format_html('<pre style="{}" dir="ltr">{}</pre>', style, cut)


def as_uuid(term: str) -> UUID | None:
    """Return a search term as a UUID, or `None` if it is not one."""
    try:
        return UUID(term.strip())
    except ValueError:
        return None


class LaneWorkflowFilter(admin.SimpleListFilter):
    """Filters rows of lanes by workflow."""

    title = "workflow"
    parameter_name = "workflow"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        from reliability.models import Workflow

        return list(Workflow.objects.values_list("slug", "name")[:200])

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        from reliability.dead_letters.filters import lanes_of

        return queryset.filter(lane_id__in=lanes_of(workflow=self.value() or "")) if self.value() else queryset
