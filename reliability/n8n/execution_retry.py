"""Replays a dead letter by n8n's own retry of its execution, which continues from the failed node.

    begin: dead letter `replaying`, retry `pending` -> process: `asked` (committed) -> n8n -> execution_retry_end:
    dead letter `recovered`, or `dead` again

n8n does not prevent a second retry of the same execution, so this module does: `asked` commits before n8n is called,
and a retry that is found in `asked` is only checked, never requested again. The row holds the state. A job per step
calls this module, and `n8n_reconcile` finds retries whose job was lost.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import DatabaseError, transaction

from reliability import queue
from reliability.core import audit, clock, known_secrets, lock_waits
from reliability.core.audit import Actor
from reliability.delivery import executions
from reliability.errors import NotFound, NotReplayable
from reliability.lanes import lane_lock
from reliability.models import DeadLetter, DeadLetterStatus, Delivery, ExecutionRetry, Lane, RetryState
from reliability.models.ids import is_demo
from reliability.policies import backoff
from reliability.policies.failure import describe, origin_of

from . import client as n8n_client
from . import execution_retry_end
from .client import N8nExecution

# The first check of a requested retry comes when the answer to the request can no longer arrive.
CHECK_AFTER = timedelta(seconds=n8n_client.RETRY_TIMEOUT + 10)
MAX_CHECKS = 8
MAX_AGE = timedelta(hours=24)
BASE_DELAY_MS, MAX_DELAY_MS = 5_000, 600_000
RETRIABLE = ("error", "crashed", "canceled", "unknown")
FAILED_STATUSES = ("error", "crashed", "canceled")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryStatus:
    """The status of a retry. `succeeded` is `None` while it is unknown; `running`: n8n shows it as unfinished.

    `begun` is false only if n8n certainly did not start it.
    """

    succeeded: bool | None = None
    execution_id: str = ""
    error: str = ""
    running: bool = False
    begun: bool = True


def begin(*, dead_letter_id: UUID, actor: Actor, now: datetime, load_workflow: bool = True) -> ExecutionRetry:
    """Request a retry of a dead letter's execution; with `load_workflow`, by the current version of the workflow.

    Raises `NotFound`, `NotReplayable` if it is not dead or has no execution, and `NotConfigured`.
    """
    with transaction.atomic():
        letter = DeadLetter.objects.filter(pk=dead_letter_id).first()
        if letter is None:
            raise NotFound("There is no such dead letter.")
        if not letter.execution_id:
            raise NotReplayable("There is no execution to retry: n8n reported none for it.")
        if is_demo(letter.pk):
            raise NotReplayable("This is demo data: n8n does not have its execution.")
        if not n8n_client.is_configured():
            raise n8n_client.NotConfigured
        made = begin_each(dead_letter_ids=[dead_letter_id], now=now, load_workflow=load_workflow)
        if not made:
            raise NotReplayable(f"Can't replay: the dead letter is {letter.status}.")
        details = {"execution": letter.execution_id, "retry": str(made[0].pk), "load_workflow": load_workflow}
        audit.record(actor=actor, action="replay", now=now, target=letter, details=details)
    return made[0]


def begin_each(
    *,
    dead_letter_ids: Sequence[UUID],
    now: datetime,
    due: Mapping[UUID, datetime] | None = None,
    load_workflow: bool = True,
    operation_id: UUID | None = None,
) -> list[ExecutionRetry]:
    """Request a retry of each that is still dead and has an execution, at its `due` time or now; return them."""
    if not n8n_client.is_configured():
        return []
    made = []
    # In the order of ids, the lock order of dead letters.
    for letter in DeadLetter.objects.dead().exclude(execution_id="").filter(pk__in=dead_letter_ids).order_by("id"):
        # The conditional UPDATE claims the dead letter: of two concurrent replays one takes place.
        own = DeadLetter.objects.dead().filter(pk=letter.pk)
        if is_demo(letter.pk) or not own.update(status=DeadLetterStatus.REPLAYING):
            continue
        at = due[letter.pk] if due is not None else now
        new = ExecutionRetry.objects.create(
            dead_letter=letter,
            execution_id=letter.execution_id,
            load_workflow=load_workflow,
            operation_id=operation_id,
            due_at=at,
            created_at=now,
        )
        queue.retry_execution(retry_id=new.pk, at=at if at > now else None)
        made.append(new)
    return made


def process(*, retry_id: UUID) -> None:
    """Take the due step of a retry: request it, once, or check its status."""
    # A job may start slightly early by the database's clock: it then does the work instead of being lost.
    due = clock.now() + queue.LEAD
    retry = ExecutionRetry.objects.filter(execution_retry_end.OPEN, pk=retry_id, due_at__lte=due).first()
    if retry is None:
        return
    status = _request_if_needed(retry) if retry.state == RetryState.PENDING else _check(retry)
    if status is None:
        return
    try:
        _record(retry, status)
    except DatabaseError as error:
        if not lock_waits.is_conflict(error):
            raise
        # Another session holds the lane. The row still says `asked` or `pending`, so a later step checks n8n again.
        queue.retry_execution(retry_id=retry_id, at=clock.now() + lock_waits.CONFLICT_RETRY_DELAY)


def wake_overdue(*, now: datetime) -> int:
    """Queue a job for each retry that is overdue by a minute: its own was lost. Return how many."""
    overdue = ExecutionRetry.objects.filter(execution_retry_end.OPEN, due_at__lt=now - timedelta(minutes=1))
    ids = list(overdue.values_list("pk", flat=True))
    for retry_id in ids:
        queue.retry_execution(retry_id=retry_id)
    return len(ids)


def _request_if_needed(retry: ExecutionRetry) -> RetryStatus | None:
    """Request the retry, unless the execution needs none or another worker has claimed it.

    No transaction is open here: n8n answers only when the retried execution has ended.
    """
    try:
        original = n8n_client.execution(execution_id=retry.execution_id, with_data=True)
    except n8n_client.Unavailable as error:
        return RetryStatus(error=error.detail, begun=False)
    except n8n_client.N8nError as error:
        return RetryStatus(succeeded=False, error=error.detail)
    if _belongs_elsewhere(retry.dead_letter.lane, original):
        return RetryStatus(succeeded=False, error=f"Execution {original.id} is of another workflow or tenant.")
    # Somebody has retried it in n8n already: a second retry would do the work twice.
    if original.retry_success_id or original.status == "success":
        return RetryStatus(succeeded=True, execution_id=original.retry_success_id or original.id)
    if original.status not in RETRIABLE:
        return RetryStatus(succeeded=False, error=f"n8n says that execution {original.id} is {original.status}.")
    return _request(retry) if _claim(retry, clock.now()) else None


def _belongs_elsewhere(lane: Lane, execution: N8nExecution) -> bool:
    """Whether n8n shows that the execution belongs to another lane: its id is only what a caller reported."""
    known = lane.workflow.n8n_workflow_id
    if known and execution.workflow_id and known != execution.workflow_id:
        return True
    origin = origin_of(execution.document)
    began = Delivery.objects.filter(pk=origin.delivery_id) if origin is not None else Delivery.objects.none()
    return began.exclude(lane=lane).exists()


def _claim(retry: ExecutionRetry, now: datetime) -> bool:
    """Set the retry to `asked`, and schedule a check in case the answer never arrives. Return whether it was won."""
    with transaction.atomic():
        until = now + CHECK_AFTER
        # The row count decides: of two workers with a job for the same retry, one requests it.
        won = ExecutionRetry.objects.filter(pk=retry.pk, state=RetryState.PENDING)
        if not won.update(state=RetryState.ASKED, due_at=until, looks=0):
            return False
        queue.retry_execution(retry_id=retry.pk, at=until, is_fallback=True)
    retry.state, retry.looks = RetryState.ASKED, 0
    return True


def _request(retry: ExecutionRetry) -> RetryStatus:
    try:
        made = n8n_client.retry_execution(execution_id=retry.execution_id, load_workflow=retry.load_workflow)
    except n8n_client.Unavailable as error:
        return RetryStatus(error=error.detail, begun=error.begun)
    except n8n_client.N8nError as error:
        return RetryStatus(succeeded=False, error=error.detail)
    return _status_of(made)


def _check(retry: ExecutionRetry) -> RetryStatus:
    """Find the retry in n8n: by its id, by the execution's `retrySuccessId`, or as its newest retry."""
    try:
        if retry.new_execution_id:
            return _status_of(n8n_client.execution(execution_id=retry.new_execution_id, with_data=True))
        original = n8n_client.execution(execution_id=retry.execution_id)
        if original.retry_success_id:
            return RetryStatus(succeeded=True, execution_id=original.retry_success_id)
        found = _newest(retry, original)
        if found is None:
            return RetryStatus(error="n8n does not show the retry.")
        return _status_of(n8n_client.execution(execution_id=found.id, with_data=True))
    except n8n_client.N8nError as error:
        return RetryStatus(error=error.detail)


def _newest(retry: ExecutionRetry, original: N8nExecution) -> N8nExecution | None:
    # A minute for the difference between n8n's clock and the database's. n8n lists running and waiting executions only
    # if their status is named.
    since = retry.created_at - timedelta(minutes=1)
    for status in ("", "running", "waiting"):
        listed = n8n_client.executions(status=status, workflow_id=original.workflow_id, started_after=since)
        found = next((one for one in listed if one.retry_of == retry.execution_id), None)
        if found is not None:
            return found
    return None


def _status_of(execution: N8nExecution) -> RetryStatus:
    if execution.status == "success":
        return RetryStatus(succeeded=True, execution_id=execution.id)
    if execution.status in FAILED_STATUSES:
        fallback = {"message": f"The execution ended as {execution.status}."}
        message = describe(execution.node, execution.error or fallback)
        return RetryStatus(False, execution.id, known_secrets.redactor_of_all().text(message))
    return RetryStatus(
        execution_id=execution.id, running=True, error=f"Execution {execution.id} is {execution.status}."
    )


def _record(retry: ExecutionRetry, status: RetryStatus) -> None:
    now = clock.now()
    with lock_waits.transaction_with_lock_timeout():
        if status.succeeded is None:
            _reschedule(retry, status, now)
            return
        letter = retry.dead_letter
        # Lock order: lane, retry, execution, dead letter. A failure report of the same execution locks them like this.
        lane_lock.lock(lane_id=letter.lane_id)
        # Read again under the lane's lock: a failure report may have finished the retry and recorded the execution.
        is_open = (
            ExecutionRetry.objects.filter(execution_retry_end.OPEN, pk=retry.pk).select_for_update(no_key=True).first()
        )
        if is_open is not None and status.execution_id:
            executions.record(
                lane_id=letter.lane_id,
                execution_id=status.execution_id,
                status="success" if status.succeeded else "error",
                now=now,
                delivery_id=letter.delivery_id,
            )
        names = {"new_execution_id": status.execution_id, "error": status.error}
        execution_retry_end.finish(retry=retry, succeeded=status.succeeded, now=now, **names)
    _log(retry, status)


def _reschedule(retry: ExecutionRetry, status: RetryStatus, now: datetime) -> None:
    """Schedule another step, or give up and set the dead letter back to dead.

    Only what n8n certainly did not start is requested again.
    """
    may_request = retry.state == RetryState.PENDING or not status.begun
    waited = now - retry.created_at
    if (retry.looks >= MAX_CHECKS and not status.running) or waited > MAX_AGE:
        error = status.error if may_request else f"outcome_unknown: n8n was asked to retry it. {status.error}"
        execution_retry_end.finish(retry=retry, succeeded=False, now=now, error=error)
        return
    wait = backoff.delay(
        k=retry.looks, base_delay_ms=BASE_DELAY_MS, max_delay_ms=MAX_DELAY_MS, jitter_factor=0, jitter=0
    )
    values = {
        "state": RetryState.PENDING if may_request else RetryState.ASKED,
        "due_at": now + wait,
        "looks": retry.looks + 1,
        "new_execution_id": status.execution_id or retry.new_execution_id,
        "error": status.error,
    }
    # Conditional on the state that was read: a failure report may have finished the retry in the meantime.
    if ExecutionRetry.objects.filter(execution_retry_end.OPEN, pk=retry.pk, state=retry.state).update(**values):
        queue.retry_execution(retry_id=retry.pk, at=now + wait)
    _log(retry, status)


def _log(retry: ExecutionRetry, status: RetryStatus) -> None:
    logger.info(
        "execution_retry",
        extra={
            "retry": str(retry.pk),
            "dead_letter": str(retry.dead_letter_id),
            "execution": retry.execution_id,
            "new_execution": status.execution_id,
            "succeeded": status.succeeded,
        },
    )
