"""Accepts triggers: one delivery per idempotency key, stored with its wake-up in one transaction.

The usual case is one statement, whose SQL function (`backstop_accept`) finds the lane, inserts the delivery and writes
the wake-up. The other cases are handled afterwards: a lane's first delivery, a repeated key, a lane that skips
unchanged payloads. `accept_by_key` checks the caller's API key in the same statement.

Call `accept` once per transaction: its locks are taken in an order that holds only within one call (`core.lock_order`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Value
from django.db.models.functions import Coalesce

from reliability.core import request_context
from reliability.core.lock_waits import deadlocks_retried
from reliability.errors import IdempotencyConflict, InvalidInput, UnknownWorkflow
from reliability.formats import strict_json
from reliability.lanes import opening
from reliability.models import (
    DEFAULT_TENANT,
    Delivery,
    DeliveryState,
    Lane,
    Source,
    Workflow,
    digest_of,
)
from reliability.models.ids import uuid7

ACCEPT_ONE = """
SELECT %s, accepted.*
FROM backstop_accept(backstop_set_request_context(%s, %s, %s), %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) AS accepted
"""
ACCEPT_MANY = """
SELECT input.id, accepted.* FROM (SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::bytea[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::bool[], %s::bool[], %s::timestamptz[])
    AS t(id, workflow, tenant, key, payload, digest, due, expires, source, stale, skipping, now)) AS input,
    LATERAL backstop_accept(backstop_set_request_context(id, %s, %s), workflow, tenant, key, payload, digest, due,
        expires, source, stale, skipping, now) AS accepted
"""

ACCEPT_BY_KEY = """
SELECT * FROM backstop_accept_by_key(%s, %s, %s, backstop_set_request_context(%s, %s, %s), %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A request for a delivery. `payload` is JSON text, `digest` its `digest_of`; without a key it gets its own id."""

    workflow: str
    payload: str
    digest: bytes
    tenant: str = DEFAULT_TENANT
    idempotency_key: str | None = None
    deliver_at: datetime | None = None
    expires_at: datetime | None = None
    source: str = Source.API
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """A trigger's delivery; `created` is false where an earlier trigger with the same key made it."""

    delivery: Delivery
    created: bool


@dataclass(frozen=True, slots=True)
class _NewDelivery:
    id: UUID
    key: str
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class _InsertResult:
    lane_id: int
    accepted: bool
    skips: bool
    skipped: bool = False


@deadlocks_retried
def accept(*, triggers: Sequence[Trigger], now: datetime) -> list[Accepted]:
    """Store each trigger as a delivery, all or none; return them in the same order.

    Raises `UnknownWorkflow`, and `IdempotencyConflict` where a key was used with another payload.
    """
    own = request_context.take_own_id() if len(triggers) == 1 else None
    lines = [_line(trigger, own) for trigger in triggers]
    if len(lines) == 1 and not connection.in_atomic_block:
        # Without a transaction around it: BEGIN and COMMIT would be two more round trips of the hot path.
        line = lines[0]
        found = _insert(lines, now=now, skipping=False)
        if line.id in found and found[line.id].accepted:
            return [Accepted(_inserted_delivery(line, found[line.id], now), created=True)]
    with transaction.atomic():
        return _accept(lines, now=now)


@deadlocks_retried
def accept_by_key(
    *, prefix: str, key_hash: str, trigger: Trigger, tenant: str | None
) -> tuple[Delivery, Trigger] | None:
    """Check an API key and store a new trigger in one statement; return the delivery, and the trigger with its tenant.

    `None`: nothing was stored, and the caller has to check everything step by step, beginning with the key (SQL
    function `backstop_accept_by_key`). `tenant` is the requested one, if any. The trigger has no expiry.
    """
    own = request_context.take_own_id()
    line = _line(trigger, own)
    one = (prefix, key_hash, tenant, line.id, *_request_ids([line]), trigger.workflow, line.key)
    with connection.cursor() as cursor:
        cursor.execute(ACCEPT_BY_KEY, [*one, trigger.payload, trigger.digest, trigger.deliver_at])
        accepted, lane_id, whose, now = cursor.fetchone()
    if not accepted:
        request_context.return_own_id(own)
        return None
    return _inserted_delivery(line, _InsertResult(lane_id, accepted=True, skips=False), now), replace(
        trigger, tenant=whose
    )


def _line(trigger: Trigger, own: UUID | None) -> _NewDelivery:
    """Give a trigger its delivery id: `own`, the generated id of the request, or a new one."""
    new = own or uuid7()
    return _NewDelivery(new, trigger.idempotency_key or str(new), trigger)


def _accept(lines: Sequence[_NewDelivery], *, now: datetime) -> list[Accepted]:
    _open_lanes(lines)
    found = _insert(lines, now=now, skipping=False)
    if any(one.skips for one in found.values()):
        found |= _insert_changed([line for line in lines if found[line.id].skips], found, now=now)
    repeats = _repeats([line for line in lines if not found[line.id].accepted], found)
    return [
        repeats.get(line.id) or Accepted(_inserted_delivery(line, found[line.id], now), created=True) for line in lines
    ]


def _insert(lines: Sequence[_NewDelivery], *, now: datetime, skipping: bool) -> dict[UUID, _InsertResult]:
    """Insert the deliveries; return the results by id, without those whose lane does not exist."""
    # Sorted by workflow, tenant and key (`core.lock_order`): of two requests that insert the same keys in another
    # order, each would wait for the other's first key.
    rows = [
        _row(line, now=now, skipping=skipping)
        for line in sorted(lines, key=lambda line: (line.trigger.workflow, line.trigger.tenant, line.key))
    ]
    request_ids = _request_ids(lines)
    with connection.cursor() as cursor:
        if len(rows) == 1:
            new, *others = rows[0]
            cursor.execute(ACCEPT_ONE, [new, new, *request_ids, *others])
        else:
            cursor.execute(ACCEPT_MANY, [*(list(column) for column in zip(*rows, strict=True)), *request_ids])
        return {row[0]: _InsertResult(*row[1:]) for row in cursor.fetchall() if row[1] is not None}


def _request_ids(lines: Sequence[_NewDelivery]) -> tuple[str, str]:
    """Return the request id and `traceparent` to store. The id is left out where a delivery has it as its own id."""
    request_id, traceparent = request_context.stored_ids()
    return "" if any(str(line.id) == request_id for line in lines) else request_id, traceparent


def _row(line: _NewDelivery, *, now: datetime, skipping: bool) -> tuple[Any, ...]:
    """Return the arguments of `backstop_accept`."""
    one = line.trigger
    return (
        line.id,
        one.workflow,
        one.tenant,
        line.key,
        one.payload,
        one.digest,
        _due(one, now),
        one.expires_at,
        str(one.source),
        one.stale,
        skipping,
        now,
    )


def _due(trigger: Trigger, now: datetime) -> datetime:
    return max(now, trigger.deliver_at) if trigger.deliver_at else now


def _inserted_delivery(line: _NewDelivery, found: _InsertResult, now: datetime) -> Delivery:
    """Return the delivery that was just inserted, without reading it back."""
    trigger, request_ids = line.trigger, _request_ids([line])
    return Delivery(
        id=line.id,
        lane_id=found.lane_id,
        idempotency_key=line.key,
        payload=trigger.payload,
        payload_digest=trigger.digest,
        source=str(trigger.source),
        state=DeliveryState.SKIPPED if found.skipped else DeliveryState.PENDING,
        finished_at=now if found.skipped else None,
        due_at=_due(trigger, now),
        created_at=now,
        expires_at=trigger.expires_at,
        stale=trigger.stale,
        request_id=request_ids[0],
        traceparent=request_ids[1],
    )


def _open_lanes(lines: Sequence[_NewDelivery]) -> None:
    """Create missing lanes, each with its breaker, and lock those that skip unchanged payloads."""
    wanted = {(line.trigger.workflow, line.trigger.tenant) for line in lines}
    slugs = {workflow for workflow, _ in wanted}
    ids = dict(Workflow.objects.filter(slug__in=slugs).values_list("slug", "id"))
    if unknown := sorted(slugs - ids.keys()):
        raise UnknownWorkflow(errors={"workflow": [f"There is no workflow '{slug}'." for slug in unknown]})
    tenants = {tenant for _, tenant in wanted}
    lanes = Lane.objects.filter(workflow__slug__in=slugs, tenant__in=tenants)
    skips = Coalesce("skip_unchanged", "workflow__skip_unchanged", Value(False))
    found = list(lanes.annotate(skips=skips).values_list("pk", "workflow__slug", "tenant", "skips"))
    for slug, tenant in sorted(wanted - {(slug, tenant) for _, slug, tenant, _ in found}):
        opening.open_lane(workflow_id=ids[slug], tenant=tenant)
    _lock_lanes(pk for pk, slug, tenant, skips in found if skips and (slug, tenant) in wanted)


def _lock_lanes(lane_ids: Iterable[int]) -> None:
    """Lock lanes in the order of their ids (`core.lock_order`)."""
    if wanted := sorted(set(lane_ids)):
        list(Lane.objects.select_for_update(no_key=True).filter(pk__in=wanted).order_by("pk").values_list("pk"))


def _insert_changed(
    lines: Sequence[_NewDelivery], found: dict[UUID, _InsertResult], *, now: datetime
) -> dict[UUID, _InsertResult]:
    """Insert deliveries of lanes that skip unchanged payloads, one after the other, under the lanes' locks.

    A payload is unchanged if it equals that of the lane's newest delivery which was, or still may be, delivered. A
    skipped delivery is stored in its final state.
    """
    # `_open_lanes` has locked these lanes, before any delivery was inserted (`core.lock_order`). A lane that was
    # created, or began to skip, since then is locked now.
    _lock_lanes(found[line.id].lane_id for line in lines)
    result = {}
    for line in lines:
        lane_id = found[line.id].lane_id
        inserted = _insert([line], now=now, skipping=True)[line.id]
        if inserted.accepted and _last_digest(lane_id, before=line.id) == line.trigger.digest:
            Delivery.objects.filter(pk=line.id).update(state=DeliveryState.SKIPPED, finished_at=now)
            inserted = replace(inserted, skipped=True)
        result[line.id] = inserted
    return result


def _last_digest(lane_id: int, *, before: UUID) -> bytes | None:
    gone = (DeliveryState.SKIPPED, DeliveryState.DEAD, DeliveryState.CANCELLED)
    earlier = Delivery.objects.filter(lane_id=lane_id).exclude(pk=before).exclude(state__in=gone)
    digest = earlier.order_by("-id").values_list("payload_digest", flat=True).first()
    return bytes(digest) if digest is not None else None


def _repeats(lines: Sequence[_NewDelivery], found: dict[UUID, _InsertResult]) -> dict[UUID, Accepted]:
    """Return the first delivery of each repeated key. Raises `IdempotencyConflict` for another payload."""
    if not lines:
        return {}
    keys, lanes = {line.key for line in lines}, {found[line.id].lane_id for line in lines}
    originals = Delivery.objects.filter(lane_id__in=lanes, idempotency_key__in=keys).exclude(source=Source.REPLAY)
    firsts = {(one.lane_id, one.idempotency_key): one for one in originals}
    result = {}
    for line in lines:
        first = firsts[found[line.id].lane_id, line.key]
        if bytes(first.payload_digest) != line.trigger.digest and not _is_same(first, line.trigger):
            raise IdempotencyConflict(f"The key '{line.key}' was used with another payload.")
        result[line.id] = Accepted(first, created=False)
    return result


def _is_same(first: Delivery, trigger: Trigger) -> bool:
    """Compare the payload itself: an earlier version computed different digests for `1.0` and `1`."""
    try:
        return bool(first.payload) and digest_of(strict_json.load(first.payload, with_nul=True)) == trigger.digest
    except InvalidInput:
        return False
