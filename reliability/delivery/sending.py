"""Turns a claim into a request, and the reply into an attempt."""

from datetime import datetime

from reliability.core import known_secrets, request_context
from reliability.lanes.messages import Claim, Sent
from reliability.models.workflow import authentication_variable as variable
from reliability.policies.classification import classify_failure, classify_reply
from reliability.transport import client as transport
from reliability.transport.client import Names, Request


def request_of(claim: Claim, *, at: float) -> Request:
    """Build the request of an attempt that starts at `at` (seconds since 1970). The payload is sent unchanged."""
    body = claim.payload.encode()
    # The workflow's header first: ours replace one of the same name in any case, so that no configuration can overwrite
    # the idempotency key.
    headers = claim.authentication | {
        "Idempotency-Key": claim.idempotency_key,
        "X-Backstop-Delivery": str(claim.delivery_id),
        "X-Backstop-Attempt": str(claim.number),
        "X-Backstop-Tenant": claim.tenant,
        request_context.HEADER: claim.request_id,
    }
    if claim.traceparent:
        headers["traceparent"] = claim.traceparent
    if claim.stale:
        headers["X-Backstop-Stale"] = "true"
    if claim.signing_secret:
        headers |= transport.sign(secret=claim.signing_secret, message_id=str(claim.delivery_id), body=body, at=at)
    timeout = claim.policy.timeout_ms / 1000
    return Request(claim.url, body, headers, timeout, claim.send_by, _names(claim))


def _names(claim: Claim) -> Names:
    """Return the names of the settings that the workflow's address and header come from."""
    return Names(headers=f"the authentication header of '{claim.workflow}' ({variable(claim.workflow)})")


def send(claim: Claim, *, started_at: datetime) -> Sent:
    """Send one attempt and classify the result. Errors of the network are part of the result, not raised."""
    answer = transport.send(request_of(claim, at=started_at.timestamp()))
    # Secrets are removed here, before the reply is classified, stored or logged: a workflow may echo its request.
    hide = known_secrets.redactor_of(claim)
    if answer.reply is not None:
        reply = hide.reply(answer.reply, cut_at=transport.BODY_LIMIT)
        return Sent(claim, classify_reply(reply), reply, started_at, answer.duration)
    assert answer.failure is not None  # noqa: S101  # an answer is one or the other
    classified = classify_failure(answer.failure, hide.text(answer.detail), answer.code)
    return Sent(claim, classified, None, started_at, answer.duration)
