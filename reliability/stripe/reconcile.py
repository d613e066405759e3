"""Compares Stripe's list of events with the ledger, and records missing events.

Stripe's list of undelivered events is not enough: an event may have been accepted and lost. So every event of the last
hours is looked up in the ledger, with the outcome of its deliveries.
"""

import enum
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection

from reliability.errors import ConfigurationError, NotFound, Unavailable
from reliability.models import (
    DEFAULT_ENDPOINT,
    DeadLetter,
    DeadLetterStatus,
    Delivery,
    EventSource,
    StripeEndpoint,
    StripeEvent,
    Workflow,
)
from reliability.policies import stripe_event
from reliability.policies.stripe_event import Event
from reliability.transport.repeated_reads import repeated

from . import ledger

# Stripe lists events for 30 days.
HOURS_LIMIT = 30 * 24
PAGE = 100
# Seconds for one page, retries included.
PAGE_SECONDS = 30.0


class LedgerState(enum.StrEnum):
    """Whether the ledger has an event. An event that is routed to no workflow is not missing."""

    KEPT = "kept"
    TAKEN_IN = "taken in"
    MISSING = "missing"
    NOT_ROUTED = "not routed"


class Outcome(enum.StrEnum):
    """The worst outcome of an event's deliveries, in ascending order."""

    NONE = "none"
    DELIVERED = "delivered"
    WAITING = "waiting"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Line:
    """One event of the report."""

    endpoint: str
    event: Event
    ledger: LedgerState
    deliveries: int
    outcome: Outcome

    @property
    def is_gap(self) -> bool:
        """Whether Stripe has told something whose effect has not been had (yet)."""
        return self.ledger in (LedgerState.MISSING, LedgerState.TAKEN_IN) or self.outcome in (
            Outcome.WAITING,
            Outcome.DEAD,
        )


def endpoints(*, slug: str | None = None) -> list[tuple[StripeEndpoint, str]]:
    """Return the endpoints that have an API key, each with its key; or the one with this slug.

    Raises `NotFound`, and `ConfigurationError` if there is no API key.
    """
    if settings.STRIPE_API_KEY and (slug or DEFAULT_ENDPOINT) == DEFAULT_ENDPOINT:
        ledger.default_endpoint()
    rows = StripeEndpoint.objects.filter(enabled=True)
    found = [(one, _key_of(one)) for one in (rows.filter(slug=slug) if slug else rows)]
    if slug and not found:
        raise NotFound(f"There is no Stripe endpoint '{slug}'.")
    usable = [(one, key) for one, key in found if key]
    if not usable:
        raise ConfigurationError("No Stripe API key. Set STRIPE_API_KEY, or the endpoint's own key.")
    return usable


def _key_of(endpoint: StripeEndpoint) -> str:
    own = str(endpoint.api_key)
    return own or (settings.STRIPE_API_KEY if endpoint.slug == DEFAULT_ENDPOINT else "")


def run(
    *, endpoint: StripeEndpoint, key: str, hours: int, now: datetime, dry_run: bool = False, everything: bool = False
) -> Iterator[Line]:
    """Compare an endpoint's account with the ledger, newest events first; yield a line for each event.

    A missing event is recorded if a workflow subscribes to its type, or with `everything`. Raises `Unavailable` if
    Stripe does not answer, and `ConfigurationError` if it does not accept the key.
    """
    listed = _listed(key, now - timedelta(hours=hours))
    while page := list(islice(listed, PAGE)):
        yield from _page(endpoint, page, now=now, dry_run=dry_run, everything=everything)


def _listed(key: str, since: datetime) -> Iterator[dict[str, Any]]:
    """Yield Stripe's events since a moment, newest first, as its API returns them."""
    import stripe

    wanted: dict[str, Any] = {"limit": PAGE, "created": {"gte": int(since.timestamp())}}
    try:
        while True:
            page = repeated(
                partial(_listed_page, key, wanted), on=stripe.StripeError, seconds=PAGE_SECONDS, is_transient=_passes
            )
            for event in page.data:
                yield event.to_dict()
            if not page.has_more or not page.data:
                return
            wanted = {**wanted, "starting_after": page.data[-1].id}
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise ConfigurationError(f"Stripe does not accept the API key: {_message(error)}") from None
    except stripe.StripeError as error:
        raise Unavailable(f"Stripe did not list its events: {_message(error)}") from None


def _listed_page(key: str, wanted: dict[str, Any], seconds: float) -> Any:
    import stripe

    # The library's own retries have no limit for their total time.
    client = stripe.StripeClient(
        key,
        base_addresses={"api": settings.STRIPE_API_URL},
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=seconds),
    )
    return client.v1.events.list(wanted)  # type: ignore[arg-type]  # the library's own kind of dictionary


def _passes(error: Exception) -> bool:
    """Whether a retry may succeed: no connection, a rate limit, or an error on Stripe's side."""
    status = getattr(error, "http_status", None)
    return status is None or status in (409, 429) or status >= 500


def _message(error: Exception) -> str:
    return str(getattr(error, "user_message", None) or type(error).__name__)


def _page(
    endpoint: StripeEndpoint, page: Sequence[dict[str, Any]], *, now: datetime, dry_run: bool, everything: bool
) -> Iterable[Line]:
    events = [(stripe_event.read(one, now=now), one) for one in page]
    kept = _kept(endpoint, events)
    routed = set(_routed_types({event.type for event, _ in events}))
    for event, document in events:
        if _key(endpoint, event) in kept or not (everything or event.type in routed):
            continue
        if not dry_run:
            text = json.dumps(document, indent=2, ensure_ascii=False)
            result = ledger.record(event=event, text=text, endpoint_id=endpoint.pk, source=EventSource.RECONCILED)
            if result == "off":
                raise Unavailable("Stripe events are switched off; nothing was recorded.")
    # Read again after recording: another process may have recorded some of them in between.
    after = kept if dry_run else _kept(endpoint, events)
    outcomes = _outcomes([pk for ids in after.values() for pk in ids])
    for event, _ in events:
        key = _key(endpoint, event)
        ids = after.get(key, [])
        missed = LedgerState.MISSING if everything or event.type in routed else LedgerState.NOT_ROUTED
        known = LedgerState.KEPT if key in kept else LedgerState.TAKEN_IN if key in after else missed
        yield Line(endpoint.slug, event, known, len(ids), _worst(outcomes[pk] for pk in ids))


def _key(endpoint: StripeEndpoint, event: Event) -> tuple[str, str, bool]:
    return event.id, event.account or endpoint.account, event.livemode


def _kept(endpoint: StripeEndpoint, events: Sequence[tuple[Event, Any]]) -> dict[tuple[str, str, bool], list[UUID]]:
    """Return the events that the ledger has, each with the ids of its deliveries."""
    rows = StripeEvent.objects.filter(tenant=endpoint.tenant, event_id__in=[event.id for event, _ in events])
    return {
        (event_id, account, livemode): ids
        for event_id, account, livemode, ids in rows.values_list("event_id", "account", "livemode", "delivery_ids")
    }


def _routed_types(types: Iterable[str]) -> Iterator[str]:
    """Yield the types that a workflow subscribes to, matched by the same SQL function as in the ledger."""
    # Saves the statement in installations without Stripe routing.
    if not Workflow.objects.exclude(stripe_events=[]).exists():
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT type FROM unnest(%s::text[]) AS type WHERE EXISTS (SELECT 1 FROM reliability_workflow"
            " WHERE stripe_events <> '{}' AND backstop_match_event_type(stripe_events, type))",
            [sorted(types)],
        )
        yield from (row[0] for row in cursor.fetchall())


def _outcomes(ids: Sequence[UUID]) -> dict[UUID, Outcome]:
    """Return the outcomes of deliveries. A dead letter that recovered counts as delivered.

    So does a delivery that clean-up has deleted: it deletes only finished ones.
    """
    states = dict(Delivery.objects.filter(pk__in=ids).values_list("pk", "state"))
    letters = dict(DeadLetter.objects.filter(delivery_id__in=ids).values_list("delivery_id", "status"))
    return {pk: _outcome(states.get(pk, "delivered"), letters.get(pk)) for pk in ids}


def _outcome(state: str, letter: str | None) -> Outcome:
    if letter is not None:
        return {
            DeadLetterStatus.RECOVERED.value: Outcome.DELIVERED,
            DeadLetterStatus.REPLAYING.value: Outcome.WAITING,
        }.get(letter, Outcome.DEAD)
    if state in ("pending", "sending", "awaiting_callback"):
        return Outcome.WAITING
    return Outcome.DEAD if state in ("dead", "cancelled") else Outcome.DELIVERED


def _worst(outcomes: Iterable[Outcome]) -> Outcome:
    order = list(Outcome)
    return max(outcomes, key=order.index, default=Outcome.NONE)


def summary(*, lines: Iterable[Line]) -> dict[str, int]:
    """Count a report's lines by ledger state and by outcome."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts["listed by Stripe"] += 1
        counts[f"ledger: {line.ledger}"] += 1
        if line.ledger is not LedgerState.NOT_ROUTED:
            counts[f"outcome: {line.outcome}"] += 1
    return dict(counts)
