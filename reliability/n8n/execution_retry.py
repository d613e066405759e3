"""Brings a dead letter back by n8n's own retry, which goes on from the failed node.

    begin: letter replaying, retry pending -> work: asked (committed) -> n8n -> retry_end: recovered, or dead again

n8n does not keep from retrying twice, so this does: `asked` is written before n8n is called, and whoever finds a
retry `asked` only looks how it went. The row is the truth; a job per step wakes this module, and `n8n_reconcile`
finds what lost its job.
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

# A look at what was asked comes when its answer can no longer.
ASKED_FOR = timedelta(seconds=n8n_client.RETRY_TIMEOUT + 10)
LOOKS = 8
PATIENCE = timedelta(hours=24)
BASE_DELAY_MS, MAX_DELAY_MS = 5_000, 600_000
RETRIABLE = ("error", "crashed", "canceled", "unknown")
ENDED_BADLY = ("error", "crashed", "canceled")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryStatus:
    """How a retry stands: `succeeded`, or `None` while nobody knows; `running` where n8n shows it."""

    succeeded: bool | None = None
    execution_id: str = ""
    error: str = ""
    running: bool = False
    begun: bool = True


def begin(*, dead_letter_id: UUID, actor: Actor, now: datetime, load_workflow: bool = True) -> ExecutionRetry:
    """Have a dead letter's execution retried. `load_workflow` takes the workflow as it is now.

    Raises `NotFound`, `NotReplayable` where it is not dead or n8n kept no execution, and `NotConfigured`.
    """
    with transaction.atomic():
        letter = DeadLetter.objects.filter(pk=dead_letter_id).first()
        if letter is None:
            raise NotFound("There is no such dead letter.")
        if not letter.execution_id:
            raise NotReplayable("There is no execution to retry: n8n reported none for it.")
        if is_demo(letter.pk):
            raise NotReplayable("It is demo data, of which n8n knows nothing.")
        if not n8n_client.is_configured():
            raise n8n_client.NotConfigured
        made = begin_each(dead_letter_ids=[dead_letter_id], now=now, load_workflow=load_workflow)
        if not made:
            raise NotReplayable(f"Only a dead letter can be replayed; this one is {letter.status}.")
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
    """Have those retried that are still dead and have an execution, each at its `due` time or now; return them."""
    if not n8n_client.is_configured():
        return []
    made = []
    for letter in DeadLetter.objects.dead().exclude(execution_id="").filter(pk__in=dead_letter_ids).order_by("id"):
        mine = DeadLetter.objects.dead().filter(pk=letter.pk)
        if is_demo(letter.pk) or not mine.update(status=DeadLetterStatus.REPLAYING):
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


def work(*, retry_id: UUID) -> None:
    """Do what is due for a retry: ask n8n for it, once; or look how it went."""
    due = clock.now() + queue.LEAD
    retry = ExecutionRetry.objects.filter(execution_retry_end.OPEN, pk=retry_id, due_at__lte=due).first()
    if retry is None:
        return
    went = _try(retry) if retry.state == RetryState.PENDING else _look(retry)
    if went is None:
        return
    try:
        _record(retry, went)
    except DatabaseError as error:
        if not lock_waits.is_conflict(error):
            raise
        # Its row says `asked`, or is pending still: what came of it is found out again.
        queue.retry_execution(retry_id=retry_id, at=clock.now() + lock_waits.CONFLICT_RETRY_DELAY)


def wake_stuck(*, now: datetime) -> int:
    """Wake the retries that are overdue, whose jobs were lost; return how many."""
    overdue = ExecutionRetry.objects.filter(execution_retry_end.OPEN, due_at__lt=now - timedelta(minutes=1))
    ids = list(overdue.values_list("pk", flat=True))
    for retry_id in ids:
        queue.retry_execution(retry_id=retry_id)
    return len(ids)


def _try(retry: ExecutionRetry) -> RetryStatus | None:
    """Ask n8n for the retry, unless the execution needs none, or another worker asks. No transaction is open here."""
    try:
        original = n8n_client.execution(execution_id=retry.execution_id, with_data=True)
    except n8n_client.NotReached as error:
        return RetryStatus(error=error.detail, begun=False)
    except n8n_client.N8nError as error:
        return RetryStatus(succeeded=False, error=error.detail)
    if _is_anothers(retry.dead_letter.lane, original):
        return RetryStatus(succeeded=False, error=f"Execution {original.id} is of another workflow or tenant.")
    if original.retry_success_id or original.status == "success":
        return RetryStatus(succeeded=True, execution_id=original.retry_success_id or original.id)
    if original.status not in RETRIABLE:
        return RetryStatus(succeeded=False, error=f"n8n says that execution {original.id} is {original.status}.")
    return _ask(retry) if _claim(retry, clock.now()) else None


def _is_anothers(lane: Lane, execution: N8nExecution) -> bool:
    """Whether n8n shows an execution to be none of the lane's: its id is only what somebody reported."""
    known = lane.workflow.n8n_workflow_id
    if known and execution.workflow_id and known != execution.workflow_id:
        return True
    origin = origin_of(execution.document)
    began = Delivery.objects.filter(pk=origin.delivery_id) if origin is not None else Delivery.objects.none()
    return began.exclude(lane=lane).exists()


def _claim(retry: ExecutionRetry, now: datetime) -> bool:
    """Write down that n8n is about to be asked, with a look for the case that its answer never comes back."""
    with transaction.atomic():
        until = now + ASKED_FOR
        won = ExecutionRetry.objects.filter(pk=retry.pk, state=RetryState.PENDING)
        if not won.update(state=RetryState.ASKED, due_at=until, looks=0):
            return False
        queue.retry_execution(retry_id=retry.pk, at=until, is_fallback=True)
    retry.state, retry.looks = RetryState.ASKED, 0
    return True


def _ask(retry: ExecutionRetry) -> RetryStatus:
    try:
        made = n8n_client.retry(execution_id=retry.execution_id, load_workflow=retry.load_workflow)
    except n8n_client.NotReached as error:
        return RetryStatus(error=error.detail, begun=error.begun)
    except n8n_client.N8nError as error:
        return RetryStatus(succeeded=False, error=error.detail)
    return _status_of(made)


def _look(retry: ExecutionRetry) -> RetryStatus:
    """Find the retry in n8n: the one whose id is known, or that the execution was made good by, or its newest one."""
    try:
        if retry.new_execution_id:
            return _status_of(n8n_client.execution(execution_id=retry.new_execution_id, with_data=True))
        original = n8n_client.execution(execution_id=retry.execution_id)
        if original.retry_success_id:
            return RetryStatus(succeeded=True, execution_id=original.retry_success_id)
        found = _newest(retry, original)
        if found is None:
            return RetryStatus(error="n8n shows no such retry.")
        return _status_of(n8n_client.execution(execution_id=found.id, with_data=True))
    except n8n_client.N8nError as error:
        return RetryStatus(error=error.detail)


def _newest(retry: ExecutionRetry, original: N8nExecution) -> N8nExecution | None:
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
    if execution.status in ENDED_BADLY:
        fallback = {"message": f"The execution ended as {execution.status}."}
        said = describe(execution.node, execution.error or fallback)
        return RetryStatus(False, execution.id, known_secrets.redactor_of_all().text(said))
    return RetryStatus(
        execution_id=execution.id, running=True, error=f"Execution {execution.id} is {execution.status}."
    )


def _record(retry: ExecutionRetry, went: RetryStatus) -> None:
    now = clock.now()
    with lock_waits.transaction_with_lock_timeout():
        if went.succeeded is None:
            _later(retry, went, now)
            return
        letter = retry.dead_letter
        # The lane, the retry, the execution, the dead letter: as a report of the same execution locks them.
        lane_lock.lock(lane_id=letter.lane_id)
        is_open = (
            ExecutionRetry.objects.filter(execution_retry_end.OPEN, pk=retry.pk).select_for_update(no_key=True).first()
        )
        if is_open is not None and went.execution_id:
            executions.record(
                lane_id=letter.lane_id,
                execution_id=went.execution_id,
                status="success" if went.succeeded else "error",
                now=now,
                delivery_id=letter.delivery_id,
            )
        names = {"new_execution_id": went.execution_id, "error": went.error}
        execution_retry_end.end(retry=retry, succeeded=went.succeeded, now=now, **names)
    _log(retry, went)


def _later(retry: ExecutionRetry, went: RetryStatus, now: datetime) -> None:
    """Look again, or give the letter back with what is not known. What n8n certainly did not begin is asked again."""
    again = retry.state == RetryState.PENDING or not went.begun
    waited = now - retry.created_at
    if (retry.looks >= LOOKS and not went.running) or waited > PATIENCE:
        error = went.error if again else f"outcome_unknown: n8n was asked to retry it. {went.error}"
        execution_retry_end.end(retry=retry, succeeded=False, now=now, error=error)
        return
    wait = backoff.delay(
        k=retry.looks, base_delay_ms=BASE_DELAY_MS, max_delay_ms=MAX_DELAY_MS, jitter_factor=0, jitter=0
    )
    values = {
        "state": RetryState.PENDING if again else RetryState.ASKED,
        "due_at": now + wait,
        "looks": retry.looks + 1,
        "new_execution_id": went.execution_id or retry.new_execution_id,
        "error": went.error,
    }
    if ExecutionRetry.objects.filter(execution_retry_end.OPEN, pk=retry.pk, state=retry.state).update(**values):
        queue.retry_execution(retry_id=retry.pk, at=now + wait)
    _log(retry, went)


def _log(retry: ExecutionRetry, went: RetryStatus) -> None:
    logger.info(
        "execution_retry",
        extra={
            "retry": str(retry.pk),
            "dead_letter": str(retry.dead_letter_id),
            "execution": retry.execution_id,
            "new_execution": went.execution_id,
            "succeeded": went.succeeded,
        },
    )
