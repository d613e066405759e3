"""One step of a bulk operation: the next second of a replay, or the next batch of a purge or of its undoing.

The operation's row is locked and its cursor moves with what was done, in one transaction with the wake-up for the
step after: a step that crashed is done again as a whole, and of two workers at once one leaves it to the other. A step
that has only ends to wait for says so in a transaction of its own (`settle_down`), and the end wakes it (migration
0012).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection

from reliability import queue
from reliability.core import clock, lock_waits
from reliability.dead_letters import purge, replay
from reliability.models import DeadLetter, DeadLetterSource, Ends, Operation, OperationKind, OperationState
from reliability.n8n import execution_retry
from reliability.policies import bulk as policy
from reliability.policies.bulk import Next, Progress, Rules, Step

from . import candidates

BATCH = 500
# A step that comes later than this begins anew, instead of making up for the time that it lost.
LATE = timedelta(seconds=1)
LAST = UUID(int=2**128 - 1)
ENDED = (OperationState.CANCELLED, OperationState.STOPPED)
WORDS = {OperationKind.PURGE: "purged", OperationKind.RESTORE: "brought back"}

WITHDRAW = """
UPDATE reliability_delivery SET state = 'cancelled', finished_at = %(now)s
WHERE id IN (SELECT id FROM reliability_delivery WHERE operation_id = %(operation)s AND state = 'pending'
    AND attempt_count = 0 ORDER BY id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED)
RETURNING dead_letter_id
"""


def run(*, operation_id: UUID) -> None:
    """Do what is due for an operation at this moment, as a job of the worker."""
    step(operation_id=operation_id, now=clock.now())


def step(*, operation_id: UUID, now: datetime) -> datetime | None:
    """Do what is due for an operation; return when its next step is, if one is planned.

    Where another session holds something of it, the step is put off, and no other operation waits for that.
    """
    try:
        return _step(operation_id=operation_id, now=now)
    except DatabaseError as error:
        if not lock_waits.is_conflict(error):
            raise
    later = now + lock_waits.PUT_OFF
    queue.work_on(operation_id=operation_id, at=later)
    return later


def _step(*, operation_id: UUID, now: datetime) -> datetime | None:
    with lock_waits.bounded():
        # Whoever waited for another's step would keep a thread from the other operations meanwhile.
        own = Operation.objects.select_for_update(no_key=True, skip_locked=True).filter(pk=operation_id)
        operation = own.first()
        if operation is None and Operation.objects.filter(pk=operation_id).exists():
            queue.stand_by(operation_id=operation_id, at=now)
            return None
        if operation is None or (operation.next_at is None and operation.state != OperationState.RUNNING):
            return None
        if operation.next_at is not None and operation.next_at > now:
            queue.stand_by(operation_id=operation_id, at=operation.next_at)
            return operation.next_at
        waits = _take_on(operation, now)
        operation.save()
        if operation.next_at is not None and not waits:
            queue.work_on(operation_id=operation_id, at=operation.next_at)
    return settle_down(operation_id=operation_id, now=now) if waits else operation.next_at


def settle_down(*, operation_id: UUID, now: datetime) -> datetime | None:
    """Let an operation wait for its replays' ends, unless one has come meanwhile: then return when to look again.

    The full lock of the row waits for the ends that are just being written, and keeps others out.
    """
    with lock_waits.bounded():
        # The full lock: only that waits for the key share of those who are just writing an end (migration 0012).
        operation = Operation.objects.select_for_update().get(pk=operation_id)
        if operation.state != OperationState.RUNNING:
            return None
        waits = policy.following(progress=progress_of(operation), rules=rules_of(operation)).step is Step.WAIT
        operation.next_at = None if waits else now
        operation.save(update_fields=["next_at"])
        if not waits:
            queue.work_on(operation_id=operation_id, at=now)
    return operation.next_at


def progress_of(operation: Operation) -> Progress:
    """Return how an operation stands, as its rows say."""
    ends = operation.ends if operation.kind == OperationKind.REPLAY else Ends()
    return Progress(
        matched=operation.matched,
        done=operation.done if operation.kind == OperationKind.REPLAY else 0,
        recovered=ends.recovered,
        failed=ends.failed,
        withdrawn=ends.withdrawn,
        exhausted=operation.cursor == LAST,
    )


def rules_of(operation: Operation) -> Rules:
    return Rules(canary=operation.canary, stop_failure_rate=operation.stop_failure_rate)


def _take_on(operation: Operation, now: datetime) -> bool:
    """Do the step; return whether only ends are to be waited for."""
    if operation.state in ENDED:
        _withdraw(operation, now)
        return False
    if operation.state != OperationState.RUNNING:
        operation.next_at = None
        return False
    verdict = policy.following(progress=progress_of(operation), rules=rules_of(operation))
    if verdict.step in (Step.GO, Step.CANARY):
        ids = _next_ids(operation, 1 if verdict.step is Step.CANARY else _share(operation))
        if ids:
            _work(operation, ids, now, canary=verdict.step is Step.CANARY)
            return False
        _exhaust(operation)
        verdict = policy.following(progress=progress_of(operation), rules=rules_of(operation))
    if verdict.step is Step.WAIT:
        return True
    _end(operation, verdict, now)
    return False


def _share(operation: Operation) -> int:
    return max(1, int(operation.rate_per_second)) if operation.kind == OperationKind.REPLAY else BATCH


def _next_ids(operation: Operation, limit: int) -> list[UUID]:
    """Return the next ones, oldest first."""
    if operation.cursor == LAST:
        return []
    found = candidates.matching(kind=operation.kind, frozen=operation.filter, cutoff=operation.cutoff)
    if operation.cursor:
        found = found.filter(pk__gt=operation.cursor)
    return list(found.order_by("id").values_list("pk", flat=True)[:limit])


def _exhaust(operation: Operation) -> None:
    """Note that none is left: what matched and never came up had left the queue before its turn."""
    operation.cursor = LAST
    _skip(operation, candidates.GONE, operation.matched - operation.done - operation.skipped)


def _skip(operation: Operation, cause: str, count: int) -> None:
    if count > 0:
        operation.skipped += count
        operation.skipped_by = {**operation.skipped_by, cause: operation.skipped_by.get(cause, 0) + count}


def _work(operation: Operation, ids: Sequence[UUID], now: datetime, *, canary: bool) -> None:
    """Handle these dead letters. Replays are spread over the time that the rate gives them."""
    operation.cursor = ids[-1]
    if operation.kind == OperationKind.PURGE:
        operation.done += purge.purge_each(dead_letter_ids=ids, now=now, operation_id=operation.pk)
        operation.next_at = now
    elif operation.kind == OperationKind.RESTORE:
        operation.done += purge.undo_purge_each(dead_letter_ids=ids, now=now)
        operation.next_at = now
    else:
        gap = timedelta(seconds=1 / operation.rate_per_second)
        due = operation.next_at
        begin = due if due is not None and now - due < LATE and operation.done else now
        operation.done += _replay(operation, ids, now, [begin + gap * n for n in range(len(ids))])
        operation.next_at = begin + gap * len(ids)
        if canary:
            operation.canary_letter = ids[0]


def _replay(operation: Operation, ids: Sequence[UUID], now: datetime, due: Sequence[datetime]) -> int:
    """Replay each by the way that its source allows; return how many were still dead, and could be."""
    times = dict(zip(ids, due, strict=True))
    hindered = _hindered(ids)
    for cause in hindered.values():
        _skip(operation, cause, 1)
    free = [one for one in ids if one not in hindered]
    reported = DeadLetter.objects.filter(pk__in=free, source=DeadLetterSource.N8N)
    by_n8n = set(reported.values_list("pk", flat=True))
    sent = [one for one in free if one not in by_n8n]
    names: dict[str, Any] = {"now": now, "operation_id": operation.pk}
    done = len(replay.replay_each(dead_letter_ids=sent, due=[times[one] for one in sent], **names))
    if by_n8n:
        done += len(execution_retry.begin_each(dead_letter_ids=list(by_n8n), due=times, **names))
    _skip(operation, candidates.GONE, len(free) - done)
    return done


def _hindered(ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return those that cannot be replayed, each with its cause."""
    rows = DeadLetter.objects.filter(pk__in=ids)
    found = candidates.hindrances().items()
    return {pk: cause for cause, condition in found for pk in rows.filter(condition).values_list("pk", flat=True)}


def _end(operation: Operation, verdict: Next, now: datetime) -> None:
    """Write down the end. What was handed over and not sent when it stops is withdrawn."""
    stopped = verdict.step is Step.STOP
    operation.state = OperationState.STOPPED if stopped else OperationState.DONE
    operation.finished_at, operation.next_at = now, now if stopped else None
    word = WORDS.get(OperationKind(operation.kind))
    operation.note = f"{operation.done:,} {word}." if word else verdict.note


def _withdraw(operation: Operation, now: datetime) -> None:
    """Take back a batch of what was handed over and not sent: cancelled, and dead again. In two statements, as every
    end is written: first its delivery, then its dead letter."""
    values: dict[str, Any] = {"operation": operation.pk, "now": now, "limit": BATCH}
    with connection.cursor() as cursor:
        cursor.execute(WITHDRAW, values)
        letters = [row[0] for row in cursor.fetchall()]
    replay.mark_dead_again(dead_letter_ids=letters, now=now)
    operation.next_at = now if len(letters) == BATCH else None
