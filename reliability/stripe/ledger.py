"""The ledger of Stripe events: verifies each request, records each event once, and creates its deliveries.

1. Each process caches an endpoint's active secrets, decrypted. The statement of step 3 checks that the secret that
   matched is still active, so that a retired secret ends at once. If none matches, the secrets are read again.
2. Stripe's library verifies the raw bytes with each secret. It refuses old timestamps only; this module also refuses
   timestamps in the future.
3. One statement (`backstop_record_stripe_event`) stores the event, its deliveries and their wake-ups, or counts a
   repeat.

A refused request leaves a row with the reason, and nothing of its content.
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
TOLERANCE_SECONDS = 300
RECORD = """
SELECT result, missing FROM backstop_record_stripe_event(
    backstop_set_request_context(%s, %s, %s), %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
)
"""
REFUSE = "SELECT backstop_record_stripe_refusal(%s, %s, %s)"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A request to the webhook; `signature` is its `Stripe-Signature` header, `address` that of its sender."""

    slug: str
    body: bytes
    signature: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A signing secret in plain text. One from the environment has no id."""

    id: UUID | None
    text: str


@dataclass(frozen=True, slots=True)
class CachedEndpoint:
    """An endpoint as a process caches it."""

    id: UUID
    secrets: Sequence[SigningSecret]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event in the ledger; `duplicate` if it was there before."""

    event_id: str
    duplicate: bool


# By slug. It needs no expiry: `backstop_record_stripe_event` refuses a secret that is no longer active, and a signature
# that no cached secret matches reads them again. So a webhook costs one statement.
_cache: dict[str, CachedEndpoint] = {}


def receive(*, arrival: WebhookRequest, now: datetime) -> Recorded:
    """Verify and record an event. When this returns, the event and its deliveries are committed.

    Raises `UnknownEndpoint`, `SignatureRefused`, `InvalidInput` (each recorded as a refusal), and `Unavailable` while
    Stripe's webhooks are switched off or the endpoint has no secret.
    """
    try:
        return _receive(arrival, now)
    except (UnknownEndpoint, InvalidInput) as error:
        record_refusal(slug=arrival.slug, error=error, address=arrival.address)
        raise


def record_refusal(*, slug: str, error: BackstopError, address: str) -> None:
    """Record a refused request: the reason and the address."""
    reason = error.reason if isinstance(error, SignatureRefused) else error.code
    with connection.cursor() as cursor:
        cursor.execute(REFUSE, [slug, reason, address])
    logger.warning("stripe_refused", extra={"endpoint": slug, "reason": reason, "address": address})


def _receive(arrival: WebhookRequest, now: datetime) -> Recorded:
    was_cached = arrival.slug in _cache
    endpoint = _cache.get(arrival.slug) or load(slug=arrival.slug)
    try:
        secret = verify(arrival=arrival, secrets=endpoint.secrets)
    except SignatureRefused:
        if not was_cached:
            raise
        return _receive_with_current_secrets(arrival, now)
    text = strict_json.text_of(arrival.body)
    # With NUL characters, which PostgreSQL cannot store as such: Stripe would send a refused event again for days.
    event = stripe_event.read(strict_json.load(text, with_nul=True), now=now)
    result = record(event=event, text=text, endpoint_id=endpoint.id, secret_id=secret.id)
    if result in ("retired", "closed"):
        return _receive_with_current_secrets(arrival, now)
    if result == "off":
        raise Unavailable("Stripe's webhooks are switched off.")
    return Recorded(event.id, duplicate=result == "repeat")


def _receive_with_current_secrets(arrival: WebhookRequest, now: datetime) -> Recorded:
    """Repeat with the secrets as they are now: one was added or retired since they were cached."""
    _cache.pop(arrival.slug, None)
    return _receive(arrival, now)


def load(*, slug: str) -> CachedEndpoint:
    """Read an endpoint, and cache it. The default one is created if the environment has its secret.

    Raises `UnknownEndpoint`, and `Unavailable` if it has no secret to verify with.
    """
    row = StripeEndpoint.objects.filter(slug=slug, enabled=True).first()
    from_environment = settings.STRIPE_WEBHOOK_SECRETS if slug == DEFAULT_ENDPOINT else []
    if row is None and slug == DEFAULT_ENDPOINT:
        row = default_endpoint() if from_environment else None
        if row is None:
            raise Unavailable("STRIPE_WEBHOOK_SECRET is not set.")
    if row is None or not row.enabled:
        raise UnknownEndpoint(f"There is no Stripe endpoint '{slug}'.")
    kept = [SigningSecret(one.pk, one.secret) for one in row.secrets.filter(active=True)]
    secrets = [*kept, *(SigningSecret(None, text) for text in from_environment)]
    if not secrets:
        raise Unavailable(f"The endpoint '{slug}' has no active secret.")
    _cache[slug] = CachedEndpoint(row.pk, secrets)
    return _cache[slug]


def default_endpoint() -> StripeEndpoint:
    """Return the endpoint `default`; create it if it does not exist."""
    StripeEndpoint.objects.bulk_create([StripeEndpoint(slug=DEFAULT_ENDPOINT)], ignore_conflicts=True)
    return StripeEndpoint.objects.get(slug=DEFAULT_ENDPOINT)


def verify(*, arrival: WebhookRequest, secrets: Sequence[SigningSecret]) -> SigningSecret:
    """Return the secret that the request was signed with. Raises `SignatureRefused` with the reason."""
    # Imported here: the library takes long to load and much memory, and many processes never need it.
    from stripe import SignatureVerificationError, WebhookSignature

    if not arrival.signature:
        raise SignatureRefused("missing", "The header Stripe-Signature is missing.")
    # Against replays of a recorded request. Stripe signs each retry with a new timestamp.
    off = stripe_event.stamp_of(arrival.signature).off_by(now=time.time(), tolerance=TOLERANCE_SECONDS)
    if off:
        raise SignatureRefused(off, f"The signature's timestamp lies more than {TOLERANCE_SECONDS} seconds from now.")
    fits = partial(WebhookSignature.verify_header, _text(arrival.body), arrival.signature, tolerance=TOLERANCE_SECONDS)
    for secret in secrets:
        try:
            fits(secret=secret.text)
        except (SignatureVerificationError, TypeError, ValueError):
            continue  # the library raises the latter two for malformed headers
        return secret
    raise SignatureRefused("signature", "No active secret of the endpoint fits the signature.")


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InvalidInput("The body is not UTF-8.") from None


@deadlocks_retried
def record(
    *,
    event: Event,
    text: str,
    endpoint_id: UUID,
    secret_id: UUID | None = None,
    source: str = EventSource.WEBHOOK,
) -> str:
    """Store an event whose JSON is `text`, with its deliveries, in one transaction.

    Returns `new`, `repeat`, `off` (switched off), `closed` (no enabled endpoint), or `retired` (the secret).
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
    # `lanes`: nothing was stored, because some workflows have no lane for this tenant yet. Lanes are opened in the
    # order of their workflows, so that two events that need the same ones do not deadlock.
    with transaction.atomic():
        tenant = StripeEndpoint.objects.values_list("tenant", flat=True).get(pk=endpoint_id)
        for workflow_id in sorted(missing):
            opening.open_lane(workflow_id=workflow_id, tenant=tenant)
    return record(event=event, text=text, endpoint_id=endpoint_id, secret_id=secret_id, source=source)
