"""The workflow's own report of how a delivery's work ended."""

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
OVER = (DeliveryState.CANCELLED, DeliveryState.SKIPPED)


class StaleReport(Conflict):
    """The report is about an earlier attempt than the present one."""

    code = "stale_report"


@dataclass(frozen=True, slots=True)
class Ended:
    """What the workflow says. Without an `attempt`, it is the present one's."""

    succeeded: bool
    execution_id: str = ""
    error: str = ""
    attempt: int | None = None


@deadlocks_retried
def report(*, delivery_id: UUID, ended: Ended, now: datetime) -> Delivery:
    """Hold a workflow's report against its delivery, and return that; the same report twice changes nothing.

    Raises `NotFound`, and `Conflict` where the delivery was never sent, was withdrawn, or the report is stale.
    """
    with transaction.atomic():
        named = Delivery.objects.filter(pk=delivery_id).first()
        if named is None:
            raise NotFound("There is no such delivery.")
        lane = lane_lock.lock(lane_id=named.lane_id)
        delivery = Delivery.objects.select_for_update(no_key=True).get(pk=delivery_id)
        delivery.lane = lane
        hide = known_secrets.redactor(lane.workflow)
        word = _word(replace(ended, error=hide.text(ended.error)))
        _check(delivery, word)
        correlation.record_results(lane=lane, delivery=delivery, word=word, now=now)
        delivery.refresh_from_db()
        delivery.lane = lane
    return delivery


def _word(ended: Ended) -> ExecutionResult:
    if ended.succeeded:
        return ExecutionResult(failed=False, execution_id=ended.execution_id, attempt=ended.attempt)
    message = ended.error or "The workflow reported that it failed."
    return ExecutionResult(True, FAILED_CODE, message, execution_id=ended.execution_id, attempt=ended.attempt)


def _check(delivery: Delivery, word: ExecutionResult) -> None:
    if delivery.state in OVER:
        raise Conflict(f"A report comes too late: the delivery is {delivery.state}.")
    if not delivery.attempt_count:
        raise Conflict("The delivery was not sent yet, so that no workflow can have ended.")
    if word.attempt is not None and word.attempt > delivery.attempt_count:
        raise Conflict(f"There was no attempt {word.attempt} yet; the present one is {delivery.attempt_count}.")
    if word.failed and correlation.is_stale(delivery, word):
        raise StaleReport(f"Attempt {word.attempt} is over; the present one is {delivery.attempt_count}.")
