"""Turns a claim into a request, and what comes back into an attempt."""

import time
from datetime import datetime

from reliability import origin
from reliability.policies.classification import classify_failure, classify_reply

from . import transport
from .messages import Claim, Sent
from .transport import Request


def request_of(claim: Claim, *, at: float) -> Request:
    """Build the request of an attempt that starts at `at` (seconds since 1970). The payload goes untouched."""
    body = claim.payload.encode()
    # The workflow's header goes first: ours replace one of the same name, whatever its case.
    headers = claim.authentication | {
        "Idempotency-Key": claim.idempotency_key,
        "X-Backstop-Delivery": str(claim.delivery_id),
        "X-Backstop-Attempt": str(claim.number),
        "X-Backstop-Tenant": claim.tenant,
        origin.HEADER: claim.request_id,
    }
    if claim.traceparent:
        headers["traceparent"] = claim.traceparent
    if claim.stale:
        headers["X-Backstop-Stale"] = "true"
    if claim.signing_secret:
        headers |= transport.sign(secret=claim.signing_secret, message_id=str(claim.delivery_id), body=body, at=at)
    return Request(claim.url, body, headers, timeout=claim.policy.timeout_ms / 1000)


def send(claim: Claim, *, started_at: datetime) -> Sent:
    """Send one attempt and classify what came of it. Raises nothing that the network can cause."""
    answer = transport.send(request_of(claim, at=time.time()))
    if answer.reply is not None:
        classified = classify_reply(answer.reply)
    else:
        assert answer.failure is not None  # noqa: S101  # an answer is one or the other
        classified = classify_failure(answer.failure, answer.detail)
    return Sent(claim, classified, answer.reply, started_at, answer.duration)
