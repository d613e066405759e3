"""Executions that workflows report: status and duration, counted and passed on to the lane's breaker."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from reliability import queue
from reliability.delivery import executions
from reliability.errors import InvalidInput, NotFound, UnknownWorkflow
from reliability.lanes import breakers, lane_lock, opening
from reliability.models import Delivery, Execution, ExecutionStatus, Lane, Workflow
from reliability.policies.breaker import Report, Signal

SIGNALS = {
    ExecutionStatus.SUCCESS: Signal.SUCCESS,
    ExecutionStatus.ERROR: Signal.FAILURE,
    ExecutionStatus.CRASHED: Signal.FAILURE,
}


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """What a workflow reports of an execution. `probe`: a half-open breaker admitted it as a probe."""

    workflow: str
    tenant: str
    execution_id: str
    status: str
    duration_ms: int | None = None
    delivery_id: UUID | None = None
    probe: bool = False


def record(*, report: ExecutionReport, now: datetime) -> tuple[Execution, bool]:
    """Store an execution; return its row, and whether it is new.

    Without a delivery, its result counts once for the lane's breaker: a delivery's result is counted when it settles.
    Raises `UnknownWorkflow`, `NotFound`, and `InvalidInput` if the delivery belongs to another workflow.
    """
    workflow = Workflow.objects.filter(slug=report.workflow).first()
    if workflow is None:
        raise UnknownWorkflow(errors={"workflow": [f"There is no workflow '{report.workflow}'."]})
    with transaction.atomic():
        lane = opening.open_lane(workflow_id=workflow.pk, tenant=report.tenant)
        if report.delivery_id is not None:
            _check(report.delivery_id, lane)
            created = _store(lane, report, now)
        else:
            created = _store_and_report(lane, report, now)
        found = Execution.objects.select_related("lane__workflow")
        return found.get(lane=lane, execution_id=report.execution_id), created


def _check(delivery_id: UUID, lane: Lane) -> None:
    delivery = Delivery.objects.select_related("lane").filter(pk=delivery_id, lane__tenant=lane.tenant).first()
    if delivery is None:
        raise NotFound("There is no such delivery.")
    if delivery.lane_id != lane.pk:
        raise InvalidInput(errors={"delivery": ["The delivery belongs to another workflow."]})


def _store(lane: Lane, report: ExecutionReport, now: datetime, *, settled: bool = False) -> bool:
    return executions.record(
        lane_id=lane.pk,
        execution_id=report.execution_id,
        status=report.status,
        now=now,
        delivery_id=report.delivery_id,
        duration_ms=report.duration_ms,
        settled=settled,
    )


def _store_and_report(lane: Lane, report: ExecutionReport, now: datetime) -> bool:
    """Store an execution, and report its first final status to the breaker."""
    # With the lane locked, no second report of the execution comes between the check and the count.
    lane = lane_lock.lock(lane_id=lane.pk)
    before = Execution.objects.filter(lane=lane, execution_id=report.execution_id).first()
    signal = SIGNALS.get(ExecutionStatus(report.status))
    created = _store(lane, report, now, settled=signal is not None)
    reported_before = before is not None and (before.delivery_id is not None or before.settled)
    if signal is not None and not reported_before:
        reason = "" if signal is Signal.SUCCESS else f"execution_{report.status}: Execution {report.execution_id}"
        breaker_report = Report(signal, probe=report.probe, reason=reason)
        policy = lane.policy
        limit = policy.concurrency_limit
        if breakers.record_results(
            breaker=lane.breaker, rules=policy.breaker, reports=[breaker_report], limit=limit, now=now
        ):
            queue.wake(lane_ids=[lane.pk])
    return created
