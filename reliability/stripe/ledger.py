"""Stripe's events: verified, recorded once, routed to intake.

1. The endpoint's active secrets are remembered by each process, decrypted; the database says of each event whether
   the one that fitted is still active, so that a retired secret ends at once, and a new one is read where none fits.
2. Stripe's own code verifies the raw bytes against each of them. It refuses old timestamps alone; those of the
   future are refused here.
3. One statement (`sql/record_stripe_event.sql`) keeps the event, its deliveries and their wake-ups, or counts a repeat.

A refusal leaves a row of its own, with nothing of what the request held.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from reliability.core import request_context
from reliability.core.lock_waits import deadlocks_retried
from reliability.errors import BackstopError, InvalidInput, SignatureRefused, Unavailable, UnknownEndpoint
from reliability.formats import strict_json
from reliability.lanes import opening
from reliability.models import DEFAULT_ENDPOINT, EventSource, StripeEndpoint
from reliability.models.ids import uuid7
from reliability.policies import stripe_event
from reliability.policies.stripe_event import Event

# Seconds, in both directions; Stripe's own default.
TOLERANCE = 300
RECORD = """
SELECT result, missing FROM backstop_record_stripe_event(
    backstop_set_request_context(%s, %s, %s), %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
)
"""
REFUSE = "SELECT backstop_record_stripe_refusal(%s, %s, %s)"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it came in; `signature` is its `Stripe-Signature` header, `address` whence it came."""

    slug: str
    body: bytes
    signature: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret in plain text; those of the environment have no id."""

    id: UUID | None
    text: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a process remembers of an endpoint."""

    id: UUID
    secrets: Sequence[Secret]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event that the ledger holds now; `duplicate` if it held it before."""

    event_id: str
    duplicate: bool


_known: dict[str, Endpoint] = {}


def receive(*, arrival: Arrival, now: datetime) -> Recorded:
    """Verify and record what Stripe sent. A return says that it is kept, with all that it leads to.

    Raises `UnknownEndpoint`, `SignatureRefused`, `InvalidInput` (each kept as a refusal), and `Unavailable` while
    Stripe's webhooks are switched off or the endpoint has no secret.
    """
    try:
        return _receive(arrival, now)
    except (UnknownEndpoint, InvalidInput) as error:
        refuse(slug=arrival.slug, error=error, address=arrival.address)
        raise


def refuse(*, slug: str, error: BackstopError, address: str) -> None:
    """Keep a refusal: why, and from where."""
    reason = error.reason if isinstance(error, SignatureRefused) else error.code
    with connection.cursor() as cursor:
        cursor.execute(REFUSE, [slug, reason, address])
    logger.warning("stripe_refused", extra={"endpoint": slug, "reason": reason, "address": address})


def _receive(arrival: Arrival, now: datetime) -> Recorded:
    remembered = arrival.slug in _known
    endpoint = _known.get(arrival.slug) or load(slug=arrival.slug)
    try:
        secret = verify(arrival=arrival, secrets=endpoint.secrets)
    except SignatureRefused:
        if not remembered:
            raise
        return _receive_anew(arrival, now)
    event, text = _read(arrival.body, now)
    result = record(event=event, text=text, endpoint_id=endpoint.id, secret_id=secret.id)
    if result in ("retired", "closed"):
        return _receive_anew(arrival, now)
    if result == "off":
        raise Unavailable("Stripe's webhooks are switched off.")
    return Recorded(event.id, duplicate=result == "repeat")


def _receive_anew(arrival: Arrival, now: datetime) -> Recorded:
    """Look at the endpoint's secrets as they are now: one was added, or retired, since they were read."""
    _known.pop(arrival.slug, None)
    return _receive(arrival, now)


def load(*, slug: str) -> Endpoint:
    """Read an endpoint and remember it. The default one is made where the environment names its secret.

    Raises `UnknownEndpoint`, and `Unavailable` where it has no secret to verify with.
    """
    row = StripeEndpoint.objects.filter(slug=slug, enabled=True).first()
    from_environment = settings.STRIPE_WEBHOOK_SECRETS if slug == DEFAULT_ENDPOINT else []
    if row is None and slug == DEFAULT_ENDPOINT:
        row = default_endpoint() if from_environment else None
        if row is None:
            raise Unavailable("STRIPE_WEBHOOK_SECRET is not set.")
    if row is None or not row.enabled:
        raise UnknownEndpoint(f"There is no Stripe endpoint '{slug}'.")
    kept = [Secret(one.pk, one.secret) for one in row.secrets.filter(active=True)]
    secrets = [*kept, *(Secret(None, text) for text in from_environment)]
    if not secrets:
        raise Unavailable(f"The endpoint '{slug}' has no active secret.")
    _known[slug] = Endpoint(row.pk, secrets)
    return _known[slug]


def default_endpoint() -> StripeEndpoint:
    """Return the endpoint `default`, made if there was none."""
    StripeEndpoint.objects.bulk_create([StripeEndpoint(slug=DEFAULT_ENDPOINT)], ignore_conflicts=True)
    return StripeEndpoint.objects.get(slug=DEFAULT_ENDPOINT)


def verify(*, arrival: Arrival, secrets: Sequence[Secret]) -> Secret:
    """Return the secret by which the request was signed. Raises `SignatureRefused`, with the reason."""
    from stripe import SignatureVerificationError, WebhookSignature

    if not arrival.signature:
        raise SignatureRefused("missing", "The header Stripe-Signature is missing.")
    off = stripe_event.stamp_of(arrival.signature).off_by(now=time.time(), tolerance=TOLERANCE)
    if off:
        raise SignatureRefused(off, f"The signature's timestamp lies more than {TOLERANCE} seconds from now.")
    fits = partial(WebhookSignature.verify_header, _text(arrival.body), arrival.signature, tolerance=TOLERANCE)
    for secret in secrets:
        try:
            fits(secret=secret.text)
        except (SignatureVerificationError, TypeError, ValueError):
            continue  # the latter two: a header that is no text or no number where it should be
        return secret
    raise SignatureRefused("signature", "No active secret of the endpoint fits the signature.")


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InvalidInput("The body is not UTF-8.") from None


def _read(body: bytes, now: datetime) -> tuple[Event, str]:
    """Read an event, and its text, which is kept as it came: Stripe would send it for days, refused each time."""
    text = strict_json.text_of(body)
    return stripe_event.read(strict_json.load(text, with_nul=True), now=now), text


@deadlocks_retried
def record(
    *,
    event: Event,
    text: str,
    endpoint_id: UUID,
    secret_id: UUID | None = None,
    source: str = EventSource.WEBHOOK,
) -> str:
    """Keep an event whose JSON is `text`, with its deliveries, in one transaction.

    Returns `new`, `repeat`, `off` (switched off), `closed` (no such endpoint any more), or `retired` (the secret).
    """
    values: list[Any] = [
        uuid7(),
        *request_context.stored_ids(),
        endpoint_id,
        secret_id,
        event.account,
        event.livemode,
        event.id,
        event.type,
    ]
    values += [event.api_version, event.object_id, event.occurred_at, text, str(source), event.is_ping]
    with connection.cursor() as cursor:
        cursor.execute(RECORD, values)
        result, missing = cursor.fetchone()
    if result != "lanes":
        return str(result)
    with transaction.atomic():
        tenant = StripeEndpoint.objects.values_list("tenant", flat=True).get(pk=endpoint_id)
        for workflow_id in sorted(missing):
            opening.open_lane(workflow_id=workflow_id, tenant=tenant)
    return record(event=event, text=text, endpoint_id=endpoint_id, secret_id=secret_id, source=source)
