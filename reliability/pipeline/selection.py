"""Which dead letters a filter means: the same for lists, bulk operations, console and commands."""

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Self

from django.db.models import Q

from reliability.models import DeadLetter, Lane


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """What a caller asks for; an empty field asks for nothing. `search` looks into errors, ids and keys."""

    workflow: str = ""
    tenant: str = ""
    status: str = ""
    error_code: str = ""
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
        condition = Q()
        if self.workflow or self.tenant:
            condition &= Q(lane_id__in=lanes_of(workflow=self.workflow, tenant=self.tenant))
        for name in ("status", "error_code", "source"):
            if value := getattr(self, name):
                condition &= Q(**{name: value})
        if self.created_after:
            condition &= Q(created_at__gte=self.created_after)
        if self.created_before:
            condition &= Q(created_at__lt=self.created_before)
        return condition & _mentions(self.search) if self.search else condition

    def matching(self) -> "Any":
        """Return the dead letters that match, in no particular order."""
        return DeadLetter.objects.filter(self.query())


def lanes_of(*, workflow: str = "", tenant: str = "") -> list[int]:
    """Return the ids of the lanes of a workflow, a tenant, or both, by their slugs."""
    lanes = Lane.objects.all()
    if workflow:
        lanes = lanes.filter(workflow__slug=workflow)
    if tenant:
        lanes = lanes.filter(tenant=tenant)
    return list(lanes.order_by().values_list("pk", flat=True))


def _mentions(text: str) -> Q:
    return (
        Q(error_message__icontains=text)
        | Q(error_code__iexact=text)
        | Q(execution_id=text)
        | Q(delivery__idempotency_key=text)
        | Q(id__startswith=text.lower())
    )
