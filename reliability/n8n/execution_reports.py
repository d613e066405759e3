"""Executions' figures, as a workflow reports them: what ran, how it ended, how long it took."""

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
class Figures:
    """One execution's figures. `probe`: a permit let it through a half-open breaker."""

    workflow: str
    tenant: str
    execution_id: str
    status: str
    duration_ms: int | None = None
    delivery_id: UUID | None = None
    probe: bool = False


def report(*, figures: Figures, now: datetime) -> tuple[Execution, bool]:
    """Keep an execution's figures; return its row, and whether it is new.

    Where no delivery of ours is behind it, the lane's breaker hears how it ended, once. Raises `UnknownWorkflow`,
    `NotFound`, and `InvalidInput` where the delivery is another workflow's.
    """
    workflow = Workflow.objects.filter(slug=figures.workflow).first()
    if workflow is None:
        raise UnknownWorkflow(errors={"workflow": [f"There is no workflow '{figures.workflow}'."]})
    with transaction.atomic():
        lane = opening.open_lane(workflow_id=workflow.pk, tenant=figures.tenant)
        if figures.delivery_id is not None:
            _check(figures.delivery_id, lane)
            created = _keep(lane, figures, now)
        else:
            created = _keep_and_tell(lane, figures, now)
        found = Execution.objects.select_related("lane__workflow")
        return found.get(lane=lane, execution_id=figures.execution_id), created


def _check(delivery_id: UUID, lane: Lane) -> None:
    delivery = Delivery.objects.select_related("lane").filter(pk=delivery_id, lane__tenant=lane.tenant).first()
    if delivery is None:
        raise NotFound("There is no such delivery.")
    if delivery.lane_id != lane.pk:
        raise InvalidInput(errors={"delivery": ["It is another workflow's delivery."]})


def _keep(lane: Lane, figures: Figures, now: datetime, *, settled: bool = False) -> bool:
    return executions.keep(
        lane_id=lane.pk,
        execution_id=figures.execution_id,
        status=figures.status,
        now=now,
        delivery_id=figures.delivery_id,
        duration_ms=figures.duration_ms,
        settled=settled,
    )


def _keep_and_tell(lane: Lane, figures: Figures, now: datetime) -> bool:
    """Tell the breaker of an end that is news. The lane's lock makes "news" exact."""
    lane = lane_lock.lock(lane_id=lane.pk)
    before = Execution.objects.filter(lane=lane, execution_id=figures.execution_id).first()
    signal = SIGNALS.get(ExecutionStatus(figures.status))
    created = _keep(lane, figures, now, settled=signal is not None)
    told = before is not None and (before.delivery_id is not None or before.settled)
    if signal is not None and not told:
        reason = "" if signal is Signal.SUCCESS else f"execution_{figures.status}: Execution {figures.execution_id}"
        said = Report(signal, probe=figures.probe, reason=reason)
        policy = lane.policy
        limit = policy.concurrency_limit
        if breakers.record_results(breaker=lane.breaker, rules=policy.breaker, reports=[said], limit=limit, now=now):
            queue.wake(lane_ids=[lane.pk])
    return created
