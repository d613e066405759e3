"""The command palette's search (Ctrl K): finds rows by id, key or slug, through indexes. It never scans a table."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from unfold.dataclasses import SearchResult

from reliability.dead_letters import filters
from reliability.models import DeadLetter, Delivery, StripeEvent, Workflow

from .base import as_uuid

EACH = 5
Rows = QuerySet[Any]


def find(request: HttpRequest, term: str) -> list[SearchResult]:
    """Return the rows that the term identifies, limited to models that the user may view."""
    wanted = term.strip()
    if len(wanted) < 3:
        return []
    pk = as_uuid(wanted)
    return [
        _result(row, icon)
        for model, icon, rows in PLACES
        if request.user.has_perm(f"reliability.view_{model._meta.model_name}")
        for row in rows(wanted, pk)[:EACH]
    ]


def _deliveries(term: str, pk: UUID | None) -> Rows:
    ids = [pk] if pk else filters.deliveries_of(key=term)
    asked = (
        Delivery.objects.filter(filters.requested_by(request_id=term)).order_by().values_list("pk", flat=True)[:EACH]
    )
    return Delivery.objects.defer("payload").filter(pk__in=[*ids, *asked]).order_by()


def _dead_letters(term: str, pk: UUID | None) -> Rows:
    rows = DeadLetter.objects.defer("payload").order_by()
    return rows.filter(Q(pk=pk) | Q(delivery_id=pk) if pk else Q(delivery_id__in=filters.deliveries_of(key=term)))


def _events(term: str, pk: UUID | None) -> Rows:
    rows = StripeEvent.objects.defer("payload").order_by()
    return rows.filter(pk=pk) if pk else rows.filter(Q(event_id=term) | (Q(object_id=term) & ~Q(object_id="")))


def _workflows(term: str, pk: UUID | None) -> Rows:
    return Workflow.objects.filter(pk=pk) if pk else Workflow.objects.filter(slug__startswith=term.lower())


PLACES: tuple[tuple[type[Model], str, Callable[[str, UUID | None], Rows]], ...] = (
    (DeadLetter, "inbox", _dead_letters),
    (Delivery, "send", _deliveries),
    (StripeEvent, "receipt_long", _events),
    (Workflow, "account_tree", _workflows),
)


def _result(row: Model, icon: str) -> SearchResult:
    link = reverse(f"admin:reliability_{row._meta.model_name}_change", args=[row.pk])
    return SearchResult(title=str(row), description=str(row._meta.verbose_name).capitalize(), link=link, icon=icon)
