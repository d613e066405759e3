"""Which dead letters a filter means: the same for lists, bulk operations, console and commands.

A search looks into errors, and for ids: the beginning of an entry's or a delivery's own, an idempotency key (Stripe's
event id is one), an execution's id. Bulk operations hold every error against it (`matching`). A list has no time for
that (`found`): ids are looked up by index, and of the errors only the newest are read, which it says.
"""

import re
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from django.db.models import Q

from reliability.models import DeadLetter, Delivery, Lane, Source, ids

# Of how many dead letters a list's search reads the errors, and how many matches it shows.
ERRORS_READ = 20_000
MATCHES_SHOWN = 2_000
ID_DIGITS = 32
# So much of an id's beginning says that an id is meant.
_ID_START = re.compile(r"\A[0-9a-f]{6,32}\Z")


def asked_by(*, request_id: str) -> Q:
    """Return which deliveries a request made, by its id, and their replays; an id of ours may be a delivery's own."""
    made = Q(request_id=request_id) & ~Q(request_id="")  # the latter is what its index is of
    try:
        return made | Q(pk=UUID(request_id), request_id="")
    except ValueError:
        return made


@dataclass(frozen=True, slots=True)
class Found:
    """What a list shows. `cut`: there are older ones whose errors were not read, or more matches than are shown."""

    condition: Q
    cut: bool = False

    @property
    def rows(self) -> "Any":
        return DeadLetter.objects.filter(self.condition)


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """What a caller asks for; an empty field asks for nothing. `search` looks into errors, ids and keys."""

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

    def frozen(self) -> dict[str, Any]:
        """Return the filter as JSON values, without what it leaves open."""
        values = {name: value for name, value in asdict(self).items() if value}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}

    @classmethod
    def thawed(cls, values: dict[str, Any]) -> Self:
        """Return the filter that `frozen` wrote."""
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
        names = _names(self.search)
        return condition & (names if _is_id(self.search) else names | Q(error_message__icontains=self.search))

    def matching(self) -> "Any":
        """Return the dead letters that match, in no particular order."""
        return DeadLetter.objects.filter(self.query())

    def found(self) -> Found:
        """Return the dead letters that match, as far as a list can tell them at once, in no particular order."""
        condition = self._without_search()
        if not self.search:
            return Found(condition)
        rows = DeadLetter.objects.filter(condition)
        named = _ids(rows.filter(_names(self.search)))
        told, cut = ([], False) if _is_id(self.search) else _told(rows, self.search)
        shown = sorted({*named, *told}, reverse=True)
        return Found(Q(pk__in=shown[:MATCHES_SHOWN]), cut or len(shown) > MATCHES_SHOWN)

    def _without_search(self) -> Q:
        condition = Q()
        if self.workflow or self.tenant:
            condition &= Q(lane_id__in=lanes_of(workflow=self.workflow, tenant=self.tenant))
        for name in ("status", "error_code", "reason", "fingerprint", "source"):
            if value := getattr(self, name):
                condition &= Q(**{name: value})
        # Ids order by time: so a span of time is read from an index.
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


def _names(text: str) -> Q:
    """Return the condition that `text` names an entry: by what an index finds."""
    condition = Q(error_code__in={text, text.lower()}) | Q(execution_id=text) | Q(fingerprint=text)
    if deliveries := deliveries_of(key=text):
        condition |= Q(delivery_id__in=deliveries)
    if (span := _span(text)) is not None:
        low, high = span
        condition |= Q(id__gte=low, id__lte=high) | Q(delivery_id__gte=low, delivery_id__lte=high)
    return condition


def _told(rows: Any, text: str) -> tuple[list[UUID], bool]:
    """Return those of the newest whose error says `text`, and whether there are older ones."""
    before = rows.order_by("-id").values_list("pk", flat=True)[ERRORS_READ : ERRORS_READ + 1].first()
    newest = rows.filter(pk__gt=before) if before else rows
    return _ids(newest.filter(error_message__icontains=text)), before is not None


def deliveries_of(*, key: str) -> list[UUID]:
    """Return the deliveries of an idempotency key, one a lane; their replays have the same, and are not among them."""
    lanes = Lane.objects.order_by().values("pk")
    rows = Delivery.objects.filter(lane_id__in=lanes, idempotency_key=key).exclude(source=Source.REPLAY)
    return list(rows.order_by().values_list("pk", flat=True)[:MATCHES_SHOWN])


def _span(text: str) -> tuple[UUID, UUID] | None:
    """Return the lowest and the highest id that begin with `text`, if it can be the beginning of one."""
    digits = _digits(text)
    if not _ID_START.match(digits):
        return None
    return UUID(digits.ljust(ID_DIGITS, "0")), UUID(digits.ljust(ID_DIGITS, "f"))


def _is_id(text: str) -> bool:
    """Whether `text` is a whole id, which no error is searched for."""
    digits = _digits(text)
    return len(digits) == ID_DIGITS and _ID_START.match(digits) is not None


def _digits(text: str) -> str:
    return text.strip().lower().replace("-", "")


def _ids(rows: Any) -> list[UUID]:
    return list(rows.order_by("-id").values_list("pk", flat=True)[: MATCHES_SHOWN + 1])
