"""Stripe data: an endpoint with a rotated secret, and a week of events, repeats, refusals and claims."""

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from reliability.models import (
    ClaimStatus,
    Delivery,
    EventSource,
    Ignored,
    StripeClaim,
    StripeEndpoint,
    StripeEvent,
    StripeRefusal,
    StripeRepeat,
    StripeSecret,
)

from . import fixtures
from .builder import Builder, DeliverySpec

TYPES = (
    *("invoice.paid", "invoice.paid", "invoice.finalized", "invoice.payment_failed", "charge.refunded"),
    *("customer.subscription.updated", "customer.created", "payout.paid"),
)
REFUSED = (("signature", "203.0.113.24"), ("missing", "198.51.100.7"), ("stale", "203.0.113.24"))


def fill(builder: Builder) -> None:
    """Write the endpoint and its events. Its secrets are random."""
    endpoint = builder.add(
        StripeEndpoint(id=builder.rng.id(builder.start), slug=fixtures.ENDPOINT, tenant=fixtures.ACME)
    )
    old, new = _secrets(builder, endpoint)
    for at in builder.rng.arrivals(start=builder.start, end=builder.now, per_day=70):
        _event(builder, endpoint, new if at > new.created_at else old, at)
    for _ in range(17):
        reason, address = builder.rng.one_of(REFUSED)
        at = builder.now - timedelta(minutes=builder.rng.number(3, 9_000))
        builder.add(StripeRefusal(slug=endpoint.slug, reason=reason, address=address, at=at))
    builder.rows[StripeRefusal].sort(key=lambda one: one.at)  # type: ignore[attr-defined]  # the table's ids are in the order of time
    _claims(builder)


def _secrets(builder: Builder, endpoint: StripeEndpoint) -> tuple[StripeSecret, StripeSecret]:
    changed = builder.now - timedelta(days=4)
    made = []
    for at, retired in ((builder.start, changed + timedelta(days=1)), (changed, None)):
        secret = StripeSecret(id=builder.rng.id(at), endpoint=endpoint, secret=f"whsec_{secrets.token_urlsafe(24)}")
        secret.hint, secret.active, secret.created_at, secret.retired_at = (
            secret.secret[-4:],
            retired is None,
            at,
            retired,
        )
        made.append(builder.add(secret))
    reason = "the yearly rotation"
    builder.note(actor=fixtures.LEAD, action="add_stripe_secret", at=changed, target=endpoint, reason=reason)
    retired_at = changed + timedelta(days=1)
    builder.note(actor=fixtures.LEAD, action="retire_stripe_secret", at=retired_at, target=endpoint, reason=reason)
    return made[0], made[1]


def _event(builder: Builder, endpoint: StripeEndpoint, secret: StripeSecret, at: datetime) -> None:
    kind, lag = builder.rng.one_of(TYPES), timedelta(milliseconds=builder.rng.duration(1_400))
    if builder.rng.happens(0.01):
        lag = timedelta(minutes=builder.rng.number(20, 180))
    created = max(builder.start, at - lag).replace(microsecond=0)
    event_id, about = f"evt_demo{builder.rng.text(18)}", f"{_prefix(kind)}_demo{builder.rng.text(12)}"
    live = not builder.rng.happens(0.06)
    document = _document(builder, event_id, kind, about, created, live=live)
    deliveries = [_deliver(builder, event_id, document, at)] if _is_subscribed(kind) and live else []
    event = builder.add(
        StripeEvent(
            id=builder.rng.id(at),
            endpoint=endpoint,
            secret=secret,
            tenant=endpoint.tenant,
            livemode=live,
            event_id=event_id,
            type=kind,
            api_version="2025-10-29.clover",
            object_id=about,
            occurred_at=created,
            received_at=at,
            source=EventSource.RECONCILED if lag > timedelta(minutes=15) else EventSource.WEBHOOK,
            ignored="" if live else Ignored.MODE,
            delivery_ids=[one.pk for one in deliveries],
            payload=json.dumps(document, ensure_ascii=False),
        )
    )
    for n in range(builder.rng.number(1, 3) if builder.rng.happens(0.05) else 0):
        again = at + timedelta(seconds=40 * 4**n)
        if again < builder.now:
            builder.add(StripeRepeat(event=event, received_at=again))


def _prefix(kind: str) -> str:
    return {"invoice": "in", "charge": "ch", "customer": "cus", "payout": "po"}[kind.partition(".")[0]]


def _is_subscribed(kind: str) -> bool:
    return kind.startswith("invoice.") or kind == "charge.refunded"


def _document(
    builder: Builder, event_id: str, kind: str, about: str, created: datetime, *, live: bool
) -> dict[str, Any]:
    subject = {
        "id": about,
        "object": kind.partition(".")[0],
        "amount": builder.rng.number(900, 250_000),
        "currency": "eur",
        "description": "Café, 2 × seats — €",
        "livemode": live,
    }
    return {
        "id": event_id,
        "object": "event",
        "api_version": "2025-10-29.clover",
        "created": int(created.astimezone(UTC).timestamp()),
        "data": {"object": subject},
        "livemode": live,
        "pending_webhooks": 1,
        "type": kind,
    }


def _deliver(builder: Builder, event_id: str, document: dict[str, Any], at: datetime) -> Delivery:
    spec = fixtures.INVOICES
    failure, probability = spec.failures[0]
    is_dead = builder.rng.happens(probability)
    fails = [failure] * 4 if is_dead else [fixtures.BAD_GATEWAY] if builder.rng.happens(0.02) else []
    return builder.deliver(DeliverySpec(spec, fixtures.ACME, at, document, event_id, fails, is_dead=is_dead))


def _claims(builder: Builder) -> None:
    """Claims of a workflow that Stripe calls directly."""
    for minutes in range(40, 2_400, 160):
        at = builder.now - timedelta(minutes=minutes)
        builder.add(
            StripeClaim(
                id=builder.rng.id(at),
                tenant=fixtures.ACME,
                event_id=f"evt_demo{builder.rng.text(18)}",
                workflow=fixtures.REPORT.slug,
                status=ClaimStatus.PROCESSED,
                lease_until=at + timedelta(minutes=5),
                result={"mailed": True},
                holder="key:demo-n8n",
                created_at=at,
                finished_at=at + timedelta(seconds=3),
            )
        )
