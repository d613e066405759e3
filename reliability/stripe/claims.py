"""Lease-based claims with fencing tokens, so that each Stripe event is processed once by workflows that Stripe calls
directly.

The UPDATE that takes a claim increments its fencing token, and only the holder of the newest token may complete it: a
holder whose lease expired while it was suspended is refused.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q

from reliability.errors import ClaimHeld, Conflict, NotFound
from reliability.models import DEFAULT_TENANT, ClaimStatus, StripeClaim
from reliability.models.ids import uuid7

# One statement, so that of concurrent claims one wins: a claim can be taken if it is new, has failed, or its lease has
# expired. `clock_timestamp()` is the time after any wait for the row's lock; `now()` would be that before it.
CLAIM = """
INSERT INTO reliability_stripeclaim AS c (id, tenant, account, livemode, event_id, workflow, status, fencing_token,
    lease_until, error, holder, created_at)
VALUES (%(id)s, %(tenant)s, %(account)s, %(livemode)s, %(event)s, %(workflow)s, 'processing', 1,
    clock_timestamp() + %(lease)s, '', %(holder)s, clock_timestamp())
ON CONFLICT (event_id, tenant, account, livemode, workflow) DO UPDATE SET
    status = 'processing', fencing_token = c.fencing_token + 1, lease_until = clock_timestamp() + %(lease)s,
    error = '', holder = %(holder)s, finished_at = NULL
WHERE c.status = 'failed' OR (c.status = 'processing' AND c.lease_until <= clock_timestamp())
RETURNING c.id
"""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A request to claim an event for `workflow`, for at most `lease`."""

    event_id: str
    workflow: str = ""
    tenant: str = DEFAULT_TENANT
    account: str = ""
    livemode: bool = True
    holder: str = ""
    lease: timedelta = timedelta(minutes=5)


def claim(*, wanted: ClaimRequest, now: datetime) -> tuple[StripeClaim, bool]:
    """Claim an event; return the claim, and whether the caller holds it now (otherwise it was processed before).

    Raises `ClaimHeld`, with the rest of the lease, while another caller is processing the event.
    """
    values: dict[str, Any] = {
        "id": uuid7(),
        "tenant": wanted.tenant,
        "account": wanted.account,
        "livemode": wanted.livemode,
        "event": wanted.event_id,
        "workflow": wanted.workflow,
        "holder": wanted.holder,
        "lease": wanted.lease,
    }
    # One transaction: ON CONFLICT locks the row even where its condition fails, so that the row that is read next is
    # the one that decided.
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(CLAIM, values)
            won = cursor.fetchone()
        if won:
            return StripeClaim.objects.get(pk=won[0]), True
        kept = StripeClaim.objects.get(
            event_id=wanted.event_id,
            tenant=wanted.tenant,
            account=wanted.account,
            livemode=wanted.livemode,
            workflow=wanted.workflow,
        )
    if kept.status != ClaimStatus.PROCESSED:
        raise ClaimHeld(retry_after=max(timedelta(seconds=1), kept.lease_until - now))
    return kept, False


def complete(*, claim_id: UUID, fencing_token: int, result: Any, now: datetime) -> StripeClaim:
    """Mark a claim as processed, with a result that later claims return. Repeating it changes nothing.

    Raises `NotFound`, and `Conflict` if the token is not the newest or the claim has failed.
    """
    ended = {"status": ClaimStatus.PROCESSED, "result": result, "finished_at": now}
    return _end(claim_id, fencing_token, ended)


def fail(*, claim_id: UUID, fencing_token: int, error: str, now: datetime) -> StripeClaim:
    """Mark a claim as failed, so that the event can be claimed again. Raises as `complete` does."""
    return _end(claim_id, fencing_token, {"status": ClaimStatus.FAILED, "error": error, "finished_at": now})


def _end(claim_id: UUID, fencing_token: int, ended: dict[str, Any]) -> StripeClaim:
    # The token is part of the UPDATE's condition: a later claim in between makes it match no row.
    own = StripeClaim.objects.filter(pk=claim_id, fencing_token=fencing_token)
    won = own.filter(status=ClaimStatus.PROCESSING).update(**ended)
    kept = StripeClaim.objects.filter(pk=claim_id).first()
    if kept is None:
        raise NotFound("There is no such claim.")
    if kept.fencing_token != fencing_token:
        raise Conflict(f"The fencing token {fencing_token} is not the newest: the event was claimed again since.")
    if not won and kept.status != ended["status"]:
        raise Conflict(f"The claim has already ended: {kept.status}.")
    return kept


def find(*, name: str, tenant: str | None) -> StripeClaim:
    """Return the claim with this id, or of this event; `tenant` restricts the search.

    Raises `NotFound`, and `Conflict` if several workflows have claimed the event.
    """
    if not name.isprintable():
        raise NotFound("There is no such claim.")
    try:
        wanted = Q(pk=UUID(name))
    except ValueError:
        wanted = Q(event_id=name)
    own = Q(tenant=tenant) if tenant else Q()
    found = list(StripeClaim.objects.filter(wanted & own)[:2])
    if not found:
        raise NotFound("There is no such claim.")
    if len(found) > 1:
        raise Conflict("Several workflows have claimed this event: name the claim by its own id.")
    return found[0]
