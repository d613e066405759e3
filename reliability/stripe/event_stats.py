"""Figures of Stripe events (arrivals, deliveries) and of endpoints (last event, refused requests), for the console."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count

from reliability.models import Delivery, DeliveryState, StripeEndpoint, StripeEvent, StripeRefusal, StripeRepeat

REFUSALS_SHOWN = 8
DAY = timedelta(days=1)
# Per endpoint: the newest event, and how many were refused within a day.
ENDPOINTS = """
SELECT e.id, (SELECT max(received_at) FROM (SELECT received_at FROM reliability_stripeevent
        WHERE endpoint_id = e.id ORDER BY id DESC LIMIT 1) AS newest),
    (SELECT coalesce(sum(count), 0) FROM reliability_striperefusal WHERE slug = e.slug AND at > %(since)s)
FROM reliability_stripeendpoint e WHERE e.id = ANY(%(endpoints)s)
"""


@dataclass(frozen=True, slots=True)
class EventStats:
    """An event's repeated arrivals, and its deliveries (without payloads) in the order of its workflows."""

    repeats: int
    deliveries: Sequence[Delivery]

    @property
    def state(self) -> str:
        """Return the worst state of its deliveries; empty if it has none."""
        states = {one.state for one in self.deliveries}
        worst = (DeliveryState.DEAD, DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.AWAITING_CALLBACK)
        return next((str(one) for one in worst if one in states), next(iter(sorted(states)), ""))


@dataclass(frozen=True, slots=True)
class EndpointStats:
    """When an endpoint's last event came, and how many requests were refused within a day."""

    last_event_at: datetime | None
    refused: int


def of_events(*, events: Iterable[StripeEvent]) -> dict[UUID, EventStats]:
    """Return the figures of events, in two queries for any number of them."""
    found = list(events)
    counts = StripeRepeat.objects.filter(event__in=found).values("event").annotate(n=Count("pk"))
    repeats: dict[Any, int] = dict(counts.order_by().values_list("event", "n"))
    ids = [pk for one in found for pk in one.delivery_ids]
    rows = Delivery.objects.select_related("lane__workflow").defer("payload").in_bulk(ids)
    return {
        one.pk: EventStats(repeats.get(one.pk, 0), [rows[pk] for pk in one.delivery_ids if pk in rows]) for one in found
    }


def of_endpoints(*, endpoints: Sequence[StripeEndpoint], now: datetime) -> dict[UUID, EndpointStats]:
    """Return the figures of endpoints, in one query."""
    values: dict[str, Any] = {"endpoints": [one.pk for one in endpoints], "since": now - DAY}
    with connection.cursor() as cursor:
        cursor.execute(ENDPOINTS, values)
        return {pk: EndpointStats(last, int(refused)) for pk, last, refused in cursor.fetchall()}


def refusals(*, endpoint: StripeEndpoint) -> list[StripeRefusal]:
    """Return the newest requests that an endpoint refused."""
    return list(StripeRefusal.objects.filter(slug=endpoint.slug).order_by("-at")[:REFUSALS_SHOWN])
