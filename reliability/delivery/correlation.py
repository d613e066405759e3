"""Applies what n8n, or the workflow itself, reports about a delivery's execution.

Everything happens under the lane's lock. One failure is one dead letter: a repeated report changes nothing, and a
report about an earlier attempt than the current one is only recorded.
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

# Results of attempts that n8n may have run, so that n8n may report them.
MAY_HAVE_RUN = Q(result__in=(AttemptResult.TRANSIENT, AttemptResult.UNKNOWN, AttemptResult.INTERRUPTED)) | Q(
    # A gateway that timed out: n8n may have run the workflow all the same.
    result=AttemptResult.INSTANCE_DOWN,
    code__startswith="http_5",
)


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """How an execution ended. `attempt` is the number of the delivery's attempt that started it, if known."""

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
    """Apply an execution's result to its delivery. Lane and delivery were read under the lane's lock."""
    if result.execution_id:
        names: dict[str, Any] = {
            "lane_id": lane.pk,
            "delivery_id": delivery.pk,
            "execution_id": result.execution_id,
        }
        # False: this result was applied before. A later report may still have the better error text.
        if not executions.settle(**names, status=result.status, now=now):
            if result.failed and delivery.state == DeliveryState.DEAD:
                _explain(delivery, result)
            return
    _apply(lane, delivery, result, now)


def apply_early_results(*, lane: Lane, delivery_ids: Sequence[UUID], now: datetime) -> None:
    """Apply results that n8n reported before the attempts' replies were settled. Called after the settling."""
    if not delivery_ids:
        return
    # Only those: a report that comes before the reply must not change a delivery whose attempt is still being sent.
    early = Delivery.objects.select_for_update(no_key=True).filter(pk__in=delivery_ids, reported__isnull=False)
    for delivery in early.exclude(state=DeliveryState.SENDING):
        result = ExecutionResult(**(delivery.reported or {}))
        Delivery.objects.filter(pk=delivery.pk).update(reported=None)
        _apply(lane, delivery, result, now)


def is_stale(delivery: Delivery, result: ExecutionResult) -> bool:
    """Whether a result is about an earlier attempt than the current one."""
    return result.attempt is not None and result.attempt < delivery.attempt_count


def dead_letter_of(delivery: Delivery) -> DeadLetter | None:
    """Return the dead letter of a delivery: the one that it replays, or its own; `None` if there is none."""
    if delivery.dead_letter_id is not None:
        return DeadLetter.objects.filter(pk=delivery.dead_letter_id).first()
    return DeadLetter.objects.filter(delivery=delivery).first()


def _apply(lane: Lane, delivery: Delivery, result: ExecutionResult, now: datetime) -> None:
    if delivery.state == DeliveryState.SENDING:
        # Its reply has not been settled yet: store the result for `apply_early_results`.
        if not result.failed or _is_current_attempt(delivery, result):
            Delivery.objects.filter(pk=delivery.pk, state=DeliveryState.SENDING).update(reported=asdict(result))
    elif result.failed:
        _fail(lane, delivery, result, now)
    else:
        _succeed(lane, delivery, now)


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
            # n8n answered before the workflow had ended. It may have had effects, so an operator decides about a
            # replay.
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
        # The attempt was counted when its reply came; as a retry, only if no report was to follow.
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
    """Update a dead letter's error with n8n's own, unless that is about an earlier attempt."""
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
    """Mark the delivery as delivered, whatever state it is in: it must not run a second time."""
    # Also if it is pending again, or dead: n8n's own record decides.
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
    """Mark the dead letter as recovered, and cancel its replay if that has not been sent."""
    letter = dead_letter_of(delivery)
    if letter is None:
        return
    if letter.status == DeadLetterStatus.REPLAYING:
        begun = Delivery.objects.filter(dead_letter=letter).exclude(pk=delivery.pk)
        begun.pending().filter(attempt_count=0).update(state=DeliveryState.CANCELLED, finished_at=now)
        others = begun.filter(state__in=(DeliveryState.PENDING, *IN_FLIGHT)).exists()
        if others or letter.execution_retries.filter(finished_at=None).exists():
            return  # a replay is in flight: its own end decides
    movable = Q(status__in=(DeadLetterStatus.DEAD, DeadLetterStatus.REPLAYING))
    DeadLetter.objects.filter(movable, pk=letter.pk).update(status=DeadLetterStatus.RECOVERED, closed_at=now)


def _is_current_attempt(delivery: Delivery, result: ExecutionResult) -> bool:
    """Whether a failure report is about the current attempt. A report without a number may be an earlier one's."""
    # Where n8n replies at the end, an earlier attempt's failure arrived as a reply first, and its report comes later.
    # So while there are fewer reports than such failed attempts, one more report is taken for one of theirs.
    if result.attempt is not None:
        return not is_stale(delivery, result)
    if delivery.attempt_count <= 1 or delivery.lane.policy.completion == Completion.CALLBACK:
        return True
    earlier = delivery.attempts.filter(MAY_HAVE_RUN, number__lt=delivery.attempt_count).count()
    known = FailureReport.objects.filter(delivery=delivery).exclude(execution_id=result.execution_id).count()
    return known >= earlier
