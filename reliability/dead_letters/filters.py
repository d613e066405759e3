"""The filter on dead letters, shared by the API, the console, commands and bulk operations.

A search term matches error messages, and ids: the beginning of the id of a dead letter or delivery, an idempotency key
(for Stripe, the event id), or an execution id. Bulk operations search every error message (`matching`). A list has to
answer quickly (`found`): it looks ids up by index, and searches only the newest `ERRORS_READ` error messages.
"""

import re
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from django.db.models import Q

from reliability.models import DeadLetter, Delivery, Lane, Source, ids

# How many of the newest dead letters a list's search reads, and how many matches it shows.
ERRORS_READ = 20_000
MATCHES_SHOWN = 2_000
ID_DIGITS = 32
# From six hexadecimal digits on, a term is also looked up as the beginning of an id. Shorter ones match too many.
_ID_START = re.compile(r"\A[0-9a-f]{6,32}\Z")


def requested_by(*, request_id: str) -> Q:
    """Return the condition for the deliveries that a request created, and their replays.

    A request without an id of its own is known by the id of its delivery.
    """
    made = Q(request_id=request_id) & ~Q(request_id="")  # the second condition is that of the partial index
    try:
        return made | Q(pk=UUID(request_id), request_id="")
    except ValueError:
        return made


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The condition of a list's rows. `is_truncated`: older errors were not searched, or matches are left out."""

    condition: Q
    is_truncated: bool = False

    @property
    def rows(self) -> "Any":
        return DeadLetter.objects.filter(self.condition)


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """A filter; an empty field does not restrict. `search` matches error messages, ids and idempotency keys."""

    workflow: str = ""
    tenant: str = ""
    status: str = ""
    error_code: str = ""
    reason: str = ""
    fingerprint: str = ""
    source: str = ""
    created_after: datetime | None = None
    created_before: datetime | None = None
    search: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the filter as JSON values, without empty fields. Bulk operations store it."""
        values = {name: value for name, value in asdict(self).items() if value}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the filter that `as_json` returned."""
        restored: dict[str, Any] = dict(values)
        for name in ("created_after", "created_before"):
            if name in restored:
                restored[name] = datetime.fromisoformat(restored[name])
        return cls(**restored)

    def for_tenant(self, tenant: str) -> Self:
        """Return the filter narrowed to a tenant."""
        return replace(self, tenant=tenant)

    def query(self) -> Q:
        """Return the condition on `DeadLetter`."""
        condition = self._without_search()
        if not self.search:
            return condition
        names = _identified_by(self.search)
        return condition & (names if _is_id(self.search) else names | Q(error_message__icontains=self.search))

    def matching(self) -> "Any":
        """Return the dead letters that match, in no particular order."""
        return DeadLetter.objects.filter(self.query())

    def found(self) -> SearchResult:
        """Return the dead letters that match for a list, in no particular order: see the module about the search."""
        condition = self._without_search()
        if not self.search:
            return SearchResult(condition)
        rows = DeadLetter.objects.filter(condition)
        named = _ids(rows.filter(_identified_by(self.search)))
        by_error, is_truncated = ([], False) if _is_id(self.search) else _matching_errors(rows, self.search)
        shown = sorted({*named, *by_error}, reverse=True)
        return SearchResult(Q(pk__in=shown[:MATCHES_SHOWN]), is_truncated or len(shown) > MATCHES_SHOWN)

    def _without_search(self) -> Q:
        condition = Q()
        if self.workflow or self.tenant:
            condition &= Q(lane_id__in=lanes_of(workflow=self.workflow, tenant=self.tenant))
        for name in ("status", "error_code", "reason", "fingerprint", "source"):
            if value := getattr(self, name):
                condition &= Q(**{name: value})
        # Ids (UUIDv7) order by time. The bounds on the id let the primary key's index serve the period.
        if self.created_after:
            condition &= Q(created_at__gte=self.created_after, id__gte=ids.at_least(self.created_after))
        if self.created_before:
            condition &= Q(created_at__lt=self.created_before, id__lt=ids.before(self.created_before))
        return condition


def lanes_of(*, workflow: str = "", tenant: str = "") -> list[int]:
    """Return the ids of the lanes of a workflow, a tenant, or both, by their slugs."""
    lanes = Lane.objects.all()
    if workflow:
        lanes = lanes.filter(workflow__slug=workflow)
    if tenant:
        lanes = lanes.filter(tenant=tenant)
    return list(lanes.order_by().values_list("pk", flat=True))


def _identified_by(text: str) -> Q:
    """Return the condition that `text` identifies a row: only columns with an index."""
    condition = Q(error_code__in={text, text.lower()}) | Q(execution_id=text) | Q(fingerprint=text)
    if deliveries := deliveries_of(key=text):
        condition |= Q(delivery_id__in=deliveries)
    if (id_range := _id_range(text)) is not None:
        low, high = id_range
        condition |= Q(id__gte=low, id__lte=high) | Q(delivery_id__gte=low, delivery_id__lte=high)
    return condition


def _matching_errors(rows: Any, text: str) -> tuple[list[UUID], bool]:
    """Return those of the newest `ERRORS_READ` rows whose error contains `text`, and whether there are older rows."""
    before = rows.order_by("-id").values_list("pk", flat=True)[ERRORS_READ : ERRORS_READ + 1].first()
    newest = rows.filter(pk__gt=before) if before else rows
    return _ids(newest.filter(error_message__icontains=text)), before is not None


def deliveries_of(*, key: str) -> list[UUID]:
    """Return the deliveries with an idempotency key, at most one per lane, without replays (which share the key)."""
    # The unique index begins with the lane, so the lanes are named to make it usable.
    lanes = Lane.objects.order_by().values("pk")
    rows = Delivery.objects.filter(lane_id__in=lanes, idempotency_key=key).exclude(source=Source.REPLAY)
    return list(rows.order_by().values_list("pk", flat=True)[:MATCHES_SHOWN])


def _id_range(text: str) -> tuple[UUID, UUID] | None:
    """Return the lowest and highest id that begin with `text`, or `None` if no id can."""
    digits = _digits(text)
    if not _ID_START.match(digits):
        return None
    return UUID(digits.ljust(ID_DIGITS, "0")), UUID(digits.ljust(ID_DIGITS, "f"))


def _is_id(text: str) -> bool:
    """Whether `text` is a complete id: then error messages are not searched."""
    digits = _digits(text)
    return len(digits) == ID_DIGITS and _ID_START.match(digits) is not None


def _digits(text: str) -> str:
    return text.strip().lower().replace("-", "")


def _ids(rows: Any) -> list[UUID]:
    return list(rows.order_by("-id").values_list("pk", flat=True)[: MATCHES_SHOWN + 1])
