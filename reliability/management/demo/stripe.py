"""Stripe's part: an endpoint with a rotated secret, a week of events, repeats, refusals and claims."""

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
from .builder import Builder, Wish

TYPES = (
    *("invoice.paid", "invoice.paid", "invoice.finalized", "invoice.payment_failed", "charge.refunded"),
    *("customer.subscription.updated", "customer.created", "payout.paid"),
)
REFUSED = (("signature", "203.0.113.24"), ("missing", "198.51.100.7"), ("stale", "203.0.113.24"))


def fill(book: Builder) -> None:
    """Write the endpoint and what it heard. Its secrets are random, and kept by nobody."""
    endpoint = book.add(StripeEndpoint(id=book.dice.id(book.start), slug=fixtures.ENDPOINT, tenant=fixtures.ACME))
    old, new = _secrets(book, endpoint)
    for at in book.dice.arrivals(start=book.start, end=book.now, per_day=70):
        _event(book, endpoint, new if at > new.created_at else old, at)
    for _ in range(17):
        reason, address = book.dice.one_of(REFUSED)
        at = book.now - timedelta(minutes=book.dice.number(3, 9_000))
        book.add(StripeRefusal(slug=endpoint.slug, reason=reason, address=address, at=at))
    book.rows[StripeRefusal].sort(key=lambda one: one.at)  # type: ignore[attr-defined]  # as the table's ids do
    _claims(book)


def _secrets(book: Builder, endpoint: StripeEndpoint) -> tuple[StripeSecret, StripeSecret]:
    changed = book.now - timedelta(days=4)
    made = []
    for at, retired in ((book.start, changed + timedelta(days=1)), (changed, None)):
        secret = StripeSecret(id=book.dice.id(at), endpoint=endpoint, secret=f"whsec_{secrets.token_urlsafe(24)}")
        secret.hint, secret.active, secret.created_at, secret.retired_at = (
            secret.secret[-4:],
            retired is None,
            at,
            retired,
        )
        made.append(book.add(secret))
    reason = "the yearly rotation"
    book.note(actor=fixtures.LEAD, action="add_stripe_secret", at=changed, target=endpoint, reason=reason)
    retired_at = changed + timedelta(days=1)
    book.note(actor=fixtures.LEAD, action="retire_stripe_secret", at=retired_at, target=endpoint, reason=reason)
    return made[0], made[1]


def _event(book: Builder, endpoint: StripeEndpoint, secret: StripeSecret, at: datetime) -> None:
    kind, lag = book.dice.one_of(TYPES), timedelta(milliseconds=book.dice.took(1_400))
    if book.dice.happens(0.01):
        lag = timedelta(minutes=book.dice.number(20, 180))
    created = max(book.start, at - lag).replace(microsecond=0)
    event_id, about = f"evt_demo{book.dice.text(18)}", f"{_prefix(kind)}_demo{book.dice.text(12)}"
    live = not book.dice.happens(0.06)
    document = _document(book, event_id, kind, about, created, live=live)
    deliveries = [_deliver(book, event_id, document, at)] if _is_wanted(kind) and live else []
    event = book.add(
        StripeEvent(
            id=book.dice.id(at),
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
    for n in range(book.dice.number(1, 3) if book.dice.happens(0.05) else 0):
        again = at + timedelta(seconds=40 * 4**n)
        if again < book.now:
            book.add(StripeRepeat(event=event, received_at=again))


def _prefix(kind: str) -> str:
    return {"invoice": "in", "charge": "ch", "customer": "cus", "payout": "po"}[kind.partition(".")[0]]


def _is_wanted(kind: str) -> bool:
    return kind.startswith("invoice.") or kind == "charge.refunded"


def _document(book: Builder, event_id: str, kind: str, about: str, created: datetime, *, live: bool) -> dict[str, Any]:
    subject = {
        "id": about,
        "object": kind.partition(".")[0],
        "amount": book.dice.number(900, 250_000),
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


def _deliver(book: Builder, event_id: str, document: dict[str, Any], at: datetime) -> Delivery:
    role = fixtures.INVOICES
    trouble, probability = role.troubles[0]
    dies = book.dice.happens(probability)
    fails = [trouble] * 4 if dies else [fixtures.BAD_GATEWAY] if book.dice.happens(0.02) else []
    return book.deliver(Wish(role, fixtures.ACME, at, document, event_id, fails, dies=dies))


def _claims(book: Builder) -> None:
    """Workflows that Stripe calls directly ask before they act."""
    for minutes in range(40, 2_400, 160):
        at = book.now - timedelta(minutes=minutes)
        book.add(
            StripeClaim(
                id=book.dice.id(at),
                tenant=fixtures.ACME,
                event_id=f"evt_demo{book.dice.text(18)}",
                workflow=fixtures.REPORT.slug,
                status=ClaimStatus.PROCESSED,
                lease_until=at + timedelta(minutes=5),
                result={"mailed": True},
                holder="key:demo-n8n",
                created_at=at,
                finished_at=at + timedelta(seconds=3),
            )
        )
