"""Callbacks: a workflow reports how a delivery's work ended."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db import transaction

from reliability.core import known_secrets
from reliability.core.lock_waits import deadlocks_retried
from reliability.delivery import correlation
from reliability.delivery.correlation import ExecutionResult
from reliability.errors import Conflict, NotFound
from reliability.lanes import lane_lock
from reliability.models import Delivery, DeliveryState
from reliability.policies.error_codes import ErrorCode

STATUSES = [("succeeded", "Succeeded"), ("failed", "Failed")]
FAILED_CODE = ErrorCode.REPORTED_FAILED
WITHDRAWN = (DeliveryState.CANCELLED, DeliveryState.SKIPPED)


class StaleReport(Conflict):
    """The report is about an earlier attempt than the current one."""

    code = "stale_report"


@dataclass(frozen=True, slots=True)
class Completion:
    """What the workflow reports. Without an `attempt`, it is about the current one."""

    succeeded: bool
    execution_id: str = ""
    error: str = ""
    attempt: int | None = None


@deadlocks_retried
def report(*, delivery_id: UUID, completion: Completion, now: datetime) -> Delivery:
    """Apply a workflow's report to its delivery, and return the delivery. Repeating a report changes nothing.

    Raises `NotFound`, and `Conflict` if the delivery was never sent or was withdrawn, or the report is stale.
    """
    with transaction.atomic():
        named = Delivery.objects.filter(pk=delivery_id).first()
        if named is None:
            raise NotFound("There is no such delivery.")
        # Lock order: the lane first, then the delivery, which is read again because it may have changed until here.
        lane = lane_lock.lock(lane_id=named.lane_id)
        delivery = Delivery.objects.select_for_update(no_key=True).get(pk=delivery_id)
        delivery.lane = lane
        redactor = known_secrets.redactor(lane.workflow)
        result = _result(replace(completion, error=redactor.text(completion.error)))
        _check(delivery, result)
        correlation.record_results(lane=lane, delivery=delivery, result=result, now=now)
        delivery.refresh_from_db()
        delivery.lane = lane
    return delivery


def _result(completion: Completion) -> ExecutionResult:
    if completion.succeeded:
        return ExecutionResult(failed=False, execution_id=completion.execution_id, attempt=completion.attempt)
    message = completion.error or "The workflow reported that it failed."
    return ExecutionResult(True, FAILED_CODE, message, execution_id=completion.execution_id, attempt=completion.attempt)


def _check(delivery: Delivery, result: ExecutionResult) -> None:
    if delivery.state in WITHDRAWN:
        raise Conflict(f"Report refused: the delivery is already {delivery.state}.")
    if not delivery.attempt_count:
        raise Conflict("Report refused: the delivery has not been sent yet.")
    if result.attempt is not None and result.attempt > delivery.attempt_count:
        raise Conflict(f"There is no attempt {result.attempt} yet: the current one is {delivery.attempt_count}.")
    if result.failed and correlation.is_stale(delivery, result):
        raise StaleReport(f"Attempt {result.attempt} is outdated: the current one is {delivery.attempt_count}.")
