"""What n8n says of a delivery's execution, by its own report or the workflow's, held against the delivery.

All of it happens under the lane's lock. One failure is one entry: what is heard twice changes nothing, and what is
said of an earlier attempt than the present one is only kept.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from reliability import queue
from reliability.lanes import breakers
from reliability.models import (
    IN_FLIGHT,
    AttemptResult,
    Completion,
    DeadLetter,
    DeadLetterStatus,
    Delivery,
    DeliveryState,
    ExecutionStatus,
    FailureReport,
    Lane,
    error_fields,
)
from reliability.policies.breaker import Report, Signal
from reliability.policies.classification import Classified, Outcome
from reliability.policies.settlement import Settlement, Step, settle

from . import executions, lease_expiry, rollups
from . import settle as outcome
from .rollups import Tally

# The attempts of which n8n itself may have had something to report.
MAY_HAVE_RUN = Q(result__in=(AttemptResult.TRANSIENT, AttemptResult.UNKNOWN, AttemptResult.INTERRUPTED)) | Q(
    # A gateway that gave up waiting: n8n may have run it all the same.
    result=AttemptResult.INSTANCE_DOWN,
    code__startswith="http_5",
)


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """How an execution ended. `attempt` is the delivery's attempt that ran it, where that is known."""

    failed: bool
    code: str = ""
    message: str = ""
    execution_id: str = ""
    execution_url: str = ""
    attempt: int | None = None
    crashed: bool = False

    @property
    def status(self) -> ExecutionStatus:
        if not self.failed:
            return ExecutionStatus.SUCCESS
        return ExecutionStatus.CRASHED if self.crashed else ExecutionStatus.ERROR


def record_results(*, lane: Lane, delivery: Delivery, result: ExecutionResult, now: datetime) -> None:
    """Hold a result against its delivery; both were read under the lane's lock (`lane_lock.lock`)."""
    if result.execution_id:
        names: dict[str, Any] = {
            "lane_id": lane.pk,
            "delivery_id": delivery.pk,
            "execution_id": result.execution_id,
        }
        if not executions.settle(**names, status=result.status, now=now):
            if result.failed and delivery.state == DeliveryState.DEAD:
                _explain(delivery, result)
            return
    _apply(lane, delivery, result, now)


def apply_early_results(*, lane: Lane, delivery_ids: Sequence[UUID], now: datetime) -> None:
    """Hear what was reported of deliveries while their answers were still out; those are settled now."""
    if not delivery_ids:
        return
    early = Delivery.objects.select_for_update(no_key=True).filter(pk__in=delivery_ids, reported__isnull=False)
    for delivery in early.exclude(state=DeliveryState.SENDING):
        result = ExecutionResult(**(delivery.reported or {}))
        Delivery.objects.filter(pk=delivery.pk).update(reported=None)
        _apply(lane, delivery, result, now)


def is_stale(delivery: Delivery, result: ExecutionResult) -> bool:
    """Whether a result is about an earlier attempt than the present one."""
    return result.attempt is not None and result.attempt < delivery.attempt_count


def dead_letter_of(delivery: Delivery) -> DeadLetter | None:
    """Return the entry that a delivery's failure is, or would be, kept in."""
    if delivery.dead_letter_id is not None:
        return DeadLetter.objects.filter(pk=delivery.dead_letter_id).first()
    return DeadLetter.objects.filter(delivery=delivery).first()


def _apply(lane: Lane, delivery: Delivery, result: ExecutionResult, now: datetime) -> None:
    if delivery.state == DeliveryState.SENDING:
        _store_early_result(delivery, result)
    elif result.failed:
        _fail(lane, delivery, result, now)
    else:
        _succeed(lane, delivery, now)


def _store_early_result(delivery: Delivery, result: ExecutionResult) -> None:
    """Keep what is said before the answer was settled; the settling hears it (`apply_early_results`)."""
    if not result.failed or _is_current_attempt(delivery, result):
        Delivery.objects.filter(pk=delivery.pk, state=DeliveryState.SENDING).update(reported=asdict(result))


def _fail(lane: Lane, delivery: Delivery, result: ExecutionResult, now: datetime) -> None:
    match delivery.state:
        case DeliveryState.AWAITING_CALLBACK if _is_current_attempt(delivery, result):
            rules = outcome.rules_of(lane.policy)
            verdict = settle(
                classified=Classified(Outcome.TRANSIENT, result.code, result.message),
                rules=rules,
                attempt=delivery.attempt_count,
                retries_used=delivery.retries_used,
                jitter=random.random(),  # noqa: S311  # jitter, not a secret
            )
            _settle(lane, delivery, result, verdict, now)
        case DeliveryState.DELIVERED if _is_current_attempt(delivery, result):
            # n8n answered before its work was done: whether that may run again is a person's to decide.
            _settle(lane, delivery, result, Settlement(Step.DEAD_LETTER, code=result.code, message=result.message), now)
        case DeliveryState.PENDING if delivery.attempt_count and not is_stale(delivery, result):
            said = outcome.describe(delivery.last_error.partition(": ")[0] or result.code, result.message)
            Delivery.objects.pending().filter(pk=delivery.pk).update(last_error=said)
        case DeliveryState.DEAD:
            _explain(delivery, result)


def _settle(lane: Lane, delivery: Delivery, result: ExecutionResult, verdict: Settlement, now: datetime) -> None:
    settled = lease_expiry.record_failure(
        delivery_id=delivery.pk,
        number=delivery.attempt_count,
        verdict=verdict,
        result=AttemptResult.REPORTED_FAILED,
        started_at=delivery.sent_at or now,
        now=now,
        execution=(result.execution_id, result.execution_url),
        states=(*IN_FLIGHT, DeliveryState.DELIVERED),
    )
    if settled:
        # The attempt itself was counted when its answer came, and as a retry unless it was to be reported on.
        retries = int(delivery.attempt_count > 1 and delivery.state == DeliveryState.AWAITING_CALLBACK)
        results = {str(AttemptResult.REPORTED_FAILED): 1}
        tally = Tally(dead=int(verdict.step is Step.DEAD_LETTER), failures=1, retries=retries, results=results)
        rollups.count(lane_id=lane.pk, tally=tally, now=now)
        policy = lane.policy
        said = Report(Signal.FAILURE, reason=outcome.describe(result.code, result.message))
        limit = policy.concurrency_limit
        breakers.record_results(breaker=lane.breaker, rules=policy.breaker, reports=[said], limit=limit, now=now)
        queue.wake(lane_ids=[lane.pk])


def _explain(delivery: Delivery, result: ExecutionResult) -> None:
    """Let a dead delivery's entry say what n8n says, unless that is about an earlier attempt."""
    letter = dead_letter_of(delivery)
    if letter is None or (letter.execution_id and is_stale(delivery, result)):
        return
    dead = DeadLetter.objects.dead().filter(pk=letter.pk)
    execution = (
        {"execution_id": result.execution_id, "execution_url": result.execution_url} if result.execution_id else {}
    )
    error = error_fields(code=letter.error_code, message=result.message or letter.error_message)
    dead.update(**error, **execution)


def _succeed(lane: Lane, delivery: Delivery, now: datetime) -> None:
    """Take the work as done, whatever was made of it before: it must not run a second time."""
    undone = (DeliveryState.AWAITING_CALLBACK, DeliveryState.PENDING, DeliveryState.DEAD)
    waiting = Delivery.objects.filter(pk=delivery.pk, state__in=undone, attempt_count__gt=0)
    done = {"state": DeliveryState.DELIVERED, "finished_at": now, "last_error": ""}
    if waiting.update(**done, lease_token=None, lease_until=None, waits_for=None):
        _recover(delivery, now)
        retries = int(delivery.attempt_count > 1 and delivery.state == DeliveryState.AWAITING_CALLBACK)
        took = rollups.latency(since=delivery.created_at, now=now)
        tally = Tally(delivered=1, retries=retries, retries_delivered=retries, latencies=[took])
        rollups.count(lane_id=lane.pk, tally=tally, now=now)
        queue.wake(lane_ids=[lane.pk])


def _recover(delivery: Delivery, now: datetime) -> None:
    """Close the entry along with its delivery, and call off a replay of it that has not begun."""
    letter = dead_letter_of(delivery)
    if letter is None:
        return
    if letter.status == DeadLetterStatus.REPLAYING:
        begun = Delivery.objects.filter(dead_letter=letter).exclude(pk=delivery.pk)
        begun.pending().filter(attempt_count=0).update(state=DeliveryState.CANCELLED, finished_at=now)
        others = begun.filter(state__in=(DeliveryState.PENDING, *IN_FLIGHT)).exists()
        if others or letter.execution_retries.filter(finished_at=None).exists():
            return  # under way already: its own end moves the entry on
    movable = Q(status__in=(DeadLetterStatus.DEAD, DeadLetterStatus.REPLAYING))
    DeadLetter.objects.filter(movable, pk=letter.pk).update(status=DeadLetterStatus.RECOVERED, closed_at=now)


def _is_current_attempt(delivery: Delivery, result: ExecutionResult) -> bool:
    """Whether a failure is the present attempt's. Where nobody says, an earlier one may have its report still to come.

    Where n8n answers when all is done, an earlier attempt's failure was an answer first, and its report follows: as
    long as fewer reports than such failures came in, one more is taken for one of those.
    """
    if result.attempt is not None:
        return not is_stale(delivery, result)
    if delivery.attempt_count <= 1 or delivery.lane.policy.completion == Completion.CALLBACK:
        return True
    earlier = delivery.attempts.filter(MAY_HAVE_RUN, number__lt=delivery.attempt_count).count()
    known = FailureReport.objects.filter(delivery=delivery).exclude(execution_id=result.execution_id).count()
    return known >= earlier
