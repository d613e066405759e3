"""Replays dead letters: one, or one with an edited payload. `bulk` replays many, at a rate.

A replay is a new delivery that refers to its dead letter. It has the idempotency key of the first delivery, so that a
receiver recognises the repeat; an edited payload is another message and gets a key of its own. A conditional UPDATE
claims the dead letter, so that of two concurrent replays one takes place.

A dead letter that n8n reported has no payload for a webhook: n8n retries its execution (`n8n.execution_retry`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Value
from django.db.models.functions import Greatest

from reliability import queue
from reliability.core import audit
from reliability.core.audit import Actor
from reliability.core.lock_waits import deadlocks_retried
from reliability.errors import NotFound, NotReplayable
from reliability.formats import strict_json
from reliability.models import (
    DeadLetter,
    DeadLetterSource,
    DeadLetterStatus,
    Delivery,
    digest_of,
)
from reliability.models.ids import uuid7

from .locking import locked

REPLAY = """
WITH wanted AS (
    SELECT * FROM unnest(%(letters)s::uuid[], %(deliveries)s::uuid[], %(due)s::timestamptz[])
        AS t(letter, delivery, due_at)
), locked AS MATERIALIZED (
    -- In the order of ids: two who act on the same dead letters wait for each other, and not both.
    SELECT id FROM reliability_deadletter WHERE id = ANY(%(letters)s::uuid[]) AND status = 'dead' AND source <> 'n8n'
    ORDER BY id FOR NO KEY UPDATE
), claimed AS (
    UPDATE reliability_deadletter AS l SET status = 'replaying' FROM wanted, locked
    WHERE l.id = wanted.letter AND l.id = locked.id
    RETURNING l.id, l.lane_id, l.delivery_id, l.payload, wanted.delivery AS new_id, wanted.due_at
)
INSERT INTO reliability_delivery (id, lane_id, idempotency_key, payload, payload_digest, state, source,
    attempt_count, retries_used, due_at, created_at, last_error, stale, replay_of_id, dead_letter_id, operation_id,
    request_id, traceparent)
SELECT c.new_id, c.lane_id, coalesce(d.idempotency_key, c.id::text), c.payload,
    coalesce(d.payload_digest, sha256(convert_to(c.payload, 'UTF8'))),
    'pending', 'replay', 0, 0, c.due_at, %(now)s, '', coalesce(d.stale, false), c.delivery_id, c.id,
    %(operation)s, coalesce(nullif(d.request_id, ''), d.id::text, ''), coalesce(d.traceparent, '')
FROM claimed c LEFT JOIN reliability_delivery d ON d.id = c.delivery_id
RETURNING id, lane_id, dead_letter_id, due_at
"""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A dead letter, and the delivery that replays it."""

    dead_letter_id: UUID
    delivery_id: UUID
    lane_id: int


@deadlocks_retried
def replay(*, dead_letter_id: UUID, actor: Actor, now: datetime, payload: str | None = None) -> Replayed:
    """Replay a dead letter; with `payload` (JSON text), with another payload and an idempotency key of its own.

    Raises `NotFound`, and `NotReplayable` if it is not dead (any more).
    """
    with transaction.atomic():
        done = replay_each(dead_letter_ids=[dead_letter_id], now=now)
        if not done:
            raise _refusal(dead_letter_id)
        if payload is not None:
            _edit(done[0], payload)
        letter = DeadLetter(pk=dead_letter_id)
        details = {"delivery": str(done[0].delivery_id), "edited": payload is not None}
        audit.record(actor=actor, action="replay", now=now, target=letter, details=details)
    return done[0]


def replay_each(
    *,
    dead_letter_ids: Sequence[UUID],
    now: datetime,
    due: Sequence[datetime] | None = None,
    operation_id: UUID | None = None,
) -> list[Replayed]:
    """Replay those that are still dead, each at its `due` time or now; return them."""
    values: dict[str, Any] = {
        "letters": list(dead_letter_ids),
        "deliveries": [uuid7() for _ in dead_letter_ids],
        "due": list(due) if due is not None else [now] * len(dead_letter_ids),
        "now": now,
        "operation": operation_id,
    }
    with connection.cursor() as cursor:
        cursor.execute(REPLAY, values)
        rows = cursor.fetchall()
    _wake(rows, now)
    return [Replayed(dead_letter_id=row[2], delivery_id=row[0], lane_id=row[1]) for row in rows]


def _wake(rows: "Sequence[tuple[UUID, int, UUID, datetime]]", now: datetime) -> None:
    # One wake-up per lane: a job that is due now sends everything that is due, and another waits for the first of
    # those that are due later.
    queue.wake(lane_ids=[row[1] for row in rows if row[3] <= now])
    for lane_id in sorted({row[1] for row in rows if row[3] > now}):
        first = min(row[3] for row in rows if row[1] == lane_id and row[3] > now)
        queue.wake_at(lane_id=lane_id, at=first)


def _edit(done: Replayed, payload: str) -> None:
    digest = digest_of(strict_json.load(payload, with_nul=True))
    new = Delivery.objects.filter(pk=done.delivery_id)
    new.update(payload=payload, payload_digest=digest, idempotency_key=str(done.delivery_id))


def _refusal(dead_letter_id: UUID) -> NotFound | NotReplayable:
    letter = DeadLetter.objects.filter(pk=dead_letter_id).first()
    if letter is None:
        return NotFound("There is no such dead letter.")
    if letter.source == DeadLetterSource.N8N and letter.status == DeadLetterStatus.DEAD:
        return NotReplayable(
            "n8n reported this dead letter without a payload for the webhook. Retry its execution instead."
        )
    return NotReplayable(f"Can't replay: the dead letter is {letter.status}.")


def mark_dead_again(*, dead_letter_ids: Sequence[UUID], now: datetime) -> int:
    """Set dead letters whose replays were cancelled back to dead, with at least another TTL; return how many."""
    letters = locked(DeadLetter.objects.filter(pk__in=dead_letter_ids, status=DeadLetterStatus.REPLAYING))
    expiry = now + timedelta(hours=settings.N8N_DLQ_TTL_HOURS)
    return letters.update(status=DeadLetterStatus.DEAD, expires_at=Greatest("expires_at", Value(expiry)))
