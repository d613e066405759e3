"""The steps of a bulk operation: the next second of a replay, or the next batch of a purge or of undoing one.

A step locks the operation's row, does its work, moves the cursor and plans the next step in one transaction: after a
crash the whole step is repeated, and of two workers one leaves it to the other. When everything was replayed and only
outcomes are missing, the operation waits without a job (`wait_for_outcomes`), and the trigger that records an outcome
wakes it.
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
# A step that is later than this continues at the configured rate, instead of sending what it missed all at once.
CATCH_UP_LIMIT = timedelta(seconds=1)
END_OF_CURSOR = UUID(int=2**128 - 1)
WITHDRAWING = (OperationState.CANCELLED, OperationState.STOPPED)
DONE_VERBS = {OperationKind.PURGE: "purged", OperationKind.RESTORE: "restored"}

# SKIP LOCKED: a dispatcher that holds a delivery is about to send it, so that it is no longer withdrawn.
WITHDRAW = """
UPDATE reliability_delivery SET state = 'cancelled', finished_at = %(now)s
WHERE id IN (SELECT id FROM reliability_delivery WHERE operation_id = %(operation)s AND state = 'pending'
    AND attempt_count = 0 ORDER BY id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED)
RETURNING dead_letter_id
"""


def run(*, operation_id: UUID) -> None:
    """Run the due step of an operation, as a job of the worker."""
    step(operation_id=operation_id, now=clock.now())


def step(*, operation_id: UUID, now: datetime) -> datetime | None:
    """Run the due step of an operation; return when the next one is due, if one is planned.

    If another session holds a lock that it needs, the step is postponed: this thread can serve other operations.
    """
    try:
        return _step(operation_id=operation_id, now=now)
    except DatabaseError as error:
        if not lock_waits.is_conflict(error):
            raise
    later = now + lock_waits.CONFLICT_RETRY_DELAY
    queue.plan_operation_step(operation_id=operation_id, at=later)
    return later


def _step(*, operation_id: UUID, now: datetime) -> datetime | None:
    with lock_waits.transaction_with_lock_timeout():
        # SKIP LOCKED: another worker is running a step. Waiting for it would keep this thread from other operations.
        own = Operation.objects.select_for_update(no_key=True, skip_locked=True).filter(pk=operation_id)
        operation = own.first()
        if operation is None and Operation.objects.filter(pk=operation_id).exists():
            queue.plan_operation_fallback(operation_id=operation_id, at=now)
            return None
        if operation is None or (operation.next_at is None and operation.state != OperationState.RUNNING):
            return None
        # A job that came early, or twice: the next step stays as planned.
        if operation.next_at is not None and operation.next_at > now:
            queue.plan_operation_fallback(operation_id=operation_id, at=operation.next_at)
            return operation.next_at
        # Saving all fields is safe under the row's lock.
        waits = _perform(operation, now)
        operation.save()
        if operation.next_at is not None and not waits:
            queue.plan_operation_step(operation_id=operation_id, at=operation.next_at)
    return wait_for_outcomes(operation_id=operation_id, now=now) if waits else operation.next_at


def wait_for_outcomes(*, operation_id: UUID, now: datetime) -> datetime | None:
    """Let an operation wait for outcomes without a job; if one was recorded meanwhile, plan a step and return when."""
    with lock_waits.transaction_with_lock_timeout():
        # The trigger that records an outcome locks this row FOR KEY SHARE. Only FOR UPDATE conflicts with that (NO KEY
        # UPDATE does not), so this waits for outcomes that are being recorded, and later ones see `next_at` empty and
        # wake the operation. A transaction of its own: no other lock of the step is held while this one is waited for.
        operation = Operation.objects.select_for_update().get(pk=operation_id)
        if operation.state != OperationState.RUNNING:
            return None
        waits = policy.next_step(progress=progress_of(operation), rules=rules_of(operation)).step is Step.WAIT
        operation.next_at = None if waits else now
        operation.save(update_fields=["next_at"])
        if not waits:
            queue.plan_operation_step(operation_id=operation_id, at=now)
    return operation.next_at


def progress_of(operation: Operation) -> Progress:
    """Return an operation's progress, from its rows."""
    ends = operation.ends if operation.kind == OperationKind.REPLAY else Ends()
    return Progress(
        matched=operation.matched,
        done=operation.done if operation.kind == OperationKind.REPLAY else 0,
        recovered=ends.recovered,
        failed=ends.failed,
        withdrawn=ends.withdrawn,
        exhausted=operation.cursor == END_OF_CURSOR,
    )


def rules_of(operation: Operation) -> Rules:
    return Rules(canary=operation.canary, stop_failure_rate=operation.stop_failure_rate)


def _perform(operation: Operation, now: datetime) -> bool:
    """Do the step; return whether the operation only waits for outcomes."""
    if operation.state in WITHDRAWING:
        _withdraw(operation, now)
        return False
    if operation.state != OperationState.RUNNING:
        operation.next_at = None
        return False
    verdict = policy.next_step(progress=progress_of(operation), rules=rules_of(operation))
    if verdict.step in (Step.GO, Step.CANARY):
        # One second of a replay per step: a pause or another rate takes effect within a second.
        rate = max(1, int(operation.rate_per_second)) if operation.kind == OperationKind.REPLAY else BATCH
        ids = _next_ids(operation, 1 if verdict.step is Step.CANARY else rate)
        if ids:
            _process(operation, ids, now, canary=verdict.step is Step.CANARY)
            return False
        # None is left. Those that matched and did not come up had left the queue before.
        operation.cursor = END_OF_CURSOR
        _skip(operation, candidates.NO_LONGER_DEAD, operation.matched - operation.done - operation.skipped)
        verdict = policy.next_step(progress=progress_of(operation), rules=rules_of(operation))
    if verdict.step is Step.WAIT:
        return True
    _end(operation, verdict, now)
    return False


def _next_ids(operation: Operation, limit: int) -> list[UUID]:
    """Return the ids after the cursor, oldest first."""
    if operation.cursor == END_OF_CURSOR:
        return []
    found = candidates.matching(kind=operation.kind, filter_json=operation.filter, cutoff=operation.cutoff)
    if operation.cursor:
        found = found.filter(pk__gt=operation.cursor)
    return list(found.order_by("id").values_list("pk", flat=True)[:limit])


def _skip(operation: Operation, cause: str, count: int) -> None:
    if count > 0:
        operation.skipped += count
        operation.skipped_by = {**operation.skipped_by, cause: operation.skipped_by.get(cause, 0) + count}


def _process(operation: Operation, ids: Sequence[UUID], now: datetime, *, canary: bool) -> None:
    """Process these dead letters. Replays are spread evenly at the operation's rate."""
    operation.cursor = ids[-1]
    if operation.kind == OperationKind.PURGE:
        operation.done += purge.purge_each(dead_letter_ids=ids, now=now, operation_id=operation.pk)
        operation.next_at = now
    elif operation.kind == OperationKind.RESTORE:
        operation.done += purge.undo_purge_each(dead_letter_ids=ids, now=now)
        operation.next_at = now
    else:
        # Due times continue where the last step ended, so that the rate holds across steps.
        gap = timedelta(seconds=1 / operation.rate_per_second)
        due = operation.next_at
        begin = due if due is not None and now - due < CATCH_UP_LIMIT and operation.done else now
        operation.done += _replay(operation, ids, now, [begin + gap * n for n in range(len(ids))])
        operation.next_at = begin + gap * len(ids)
        if canary:
            operation.canary_letter = ids[0]


def _replay(operation: Operation, ids: Sequence[UUID], now: datetime, due: Sequence[datetime]) -> int:
    """Replay each in the way that its source allows; return how many were replayed."""
    times = dict(zip(ids, due, strict=True))
    conditions = _skip_causes(ids)
    for cause in conditions.values():
        _skip(operation, cause, 1)
    replayable = [one for one in ids if one not in conditions]
    reported = DeadLetter.objects.filter(pk__in=replayable, source=DeadLetterSource.N8N)
    by_n8n = set(reported.values_list("pk", flat=True))
    sent = [one for one in replayable if one not in by_n8n]
    names: dict[str, Any] = {"now": now, "operation_id": operation.pk}
    done = len(replay.replay_each(dead_letter_ids=sent, due=[times[one] for one in sent], **names))
    if by_n8n:
        done += len(execution_retry.begin_each(dead_letter_ids=list(by_n8n), due=times, **names))
    _skip(operation, candidates.NO_LONGER_DEAD, len(replayable) - done)
    return done


def _skip_causes(ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return the causes of those that cannot be replayed, by id."""
    rows = DeadLetter.objects.filter(pk__in=ids)
    found = candidates.skip_conditions().items()
    return {pk: cause for cause, condition in found for pk in rows.filter(condition).values_list("pk", flat=True)}


def _end(operation: Operation, verdict: Next, now: datetime) -> None:
    """Record the end. If the operation is stopped, further steps withdraw the replays that were not sent."""
    stopped = verdict.step is Step.STOP
    operation.state = OperationState.STOPPED if stopped else OperationState.DONE
    operation.finished_at, operation.next_at = now, now if stopped else None
    verb = DONE_VERBS.get(OperationKind(operation.kind))
    operation.note = f"{operation.done:,} {verb}." if verb else verdict.note


def _withdraw(operation: Operation, now: datetime) -> None:
    """Withdraw a batch of replays that were not sent: cancel the deliveries, and set their dead letters back to dead.

    Lock order: first the deliveries, then the dead letters, as when a delivery settles.
    """
    values: dict[str, Any] = {"operation": operation.pk, "now": now, "limit": BATCH}
    with connection.cursor() as cursor:
        cursor.execute(WITHDRAW, values)
        letters = [row[0] for row in cursor.fetchall()]
    replay.mark_dead_again(dead_letter_ids=letters, now=now)
    operation.next_at = now if len(letters) == BATCH else None
