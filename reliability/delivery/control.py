"""What operators do with deliveries and workflows: cancel, send now, pause, resume."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from reliability import queue
from reliability.core import audit
from reliability.core.audit import Actor
from reliability.core.lock_waits import deadlocks_retried
from reliability.errors import NotCancellable, NotFound
from reliability.models import DeadLetter, DeadLetterStatus, Delivery, DeliveryState, Workflow


@deadlocks_retried
def cancel(*, delivery_id: UUID, actor: Actor, now: datetime) -> Delivery:
    """Cancel a pending delivery. Raises `NotFound`, and `NotCancellable` if it is not pending any more."""
    with transaction.atomic():
        # A conditional UPDATE: of an operator and a dispatcher, the row count says who was first. The delivery comes
        # before its dead letter (`core.lock_order`).
        waiting = Delivery.objects.pending().filter(pk=delivery_id)
        won = waiting.update(state=DeliveryState.CANCELLED, finished_at=now)
        delivery = _read_delivery(delivery_id)
        if not won:
            raise NotCancellable(f"Only a pending delivery can be cancelled; this one is {delivery.state}.")
        if delivery.dead_letter_id is not None:
            replayed = DeadLetter.objects.filter(pk=delivery.dead_letter_id, status=DeadLetterStatus.REPLAYING)
            replayed.update(status=DeadLetterStatus.DEAD)
        audit.record(actor=actor, action="cancel", now=now, target=delivery)
    return delivery


@deadlocks_retried
def send_now(*, delivery_id: UUID, actor: Actor, now: datetime) -> Delivery:
    """Make a pending delivery due now; limits and breakers still apply. Raises as `cancel` does."""
    with transaction.atomic():
        won = Delivery.objects.pending().filter(pk=delivery_id).update(due_at=now, waits_for=None)
        delivery = _read_delivery(delivery_id)
        if not won:
            raise NotCancellable(f"Only a pending delivery can be sent; this one is {delivery.state}.")
        audit.record(actor=actor, action="send_now", now=now, target=delivery)
        queue.wake(lane_ids=[delivery.lane_id])
    return delivery


@deadlocks_retried
def pause(*, workflow_id: UUID, actor: Actor, now: datetime, until: datetime | None = None) -> Workflow:
    """Pause a workflow until `until`, or until it is resumed. Raises `NotFound`."""
    with transaction.atomic():
        workflow = _lock_workflow(workflow_id)
        workflow.paused, workflow.paused_reason, workflow.paused_until = True, actor.reason, until
        workflow.save(update_fields=["paused", "paused_reason", "paused_until", "updated_at"])
        details = {"until": until.isoformat()} if until else {}
        audit.record(actor=actor, action="pause", now=now, target=workflow, details=details)
        if until is not None:  # the dispatcher plans the check for `until` when it finds the lane paused
            queue.wake_waiting(workflow_id=workflow.pk)
    return workflow


@deadlocks_retried
def resume(*, workflow_id: UUID, actor: Actor, now: datetime) -> Workflow:
    """Resume a paused workflow, and wake its lanes. Raises `NotFound`."""
    with transaction.atomic():
        workflow = _lock_workflow(workflow_id)
        workflow.paused, workflow.paused_reason, workflow.paused_until = False, "", None
        workflow.save(update_fields=["paused", "paused_reason", "paused_until", "updated_at"])
        audit.record(actor=actor, action="resume", now=now, target=workflow)
        queue.wake_waiting(workflow_id=workflow.pk)
    return workflow


def workflow_id_of(*, slug: str) -> UUID:
    """Return the id of the workflow with that slug. Raises `NotFound`."""
    found = Workflow.objects.filter(slug=slug).values_list("pk", flat=True).first()
    if found is None:
        raise NotFound(f"There is no workflow '{slug}'.")
    return found


def _read_delivery(delivery_id: UUID) -> Delivery:
    delivery = Delivery.objects.select_related("lane__workflow").filter(pk=delivery_id).first()
    if delivery is None:
        raise NotFound("There is no such delivery.")
    return delivery


def _lock_workflow(workflow_id: UUID) -> Workflow:
    # Locked (`core.lock_order`): the audit entry and the pause have to be about the same state.
    workflow = Workflow.objects.select_for_update(no_key=True).filter(pk=workflow_id).first()
    if workflow is None:
        raise NotFound("There is no such workflow.")
    return workflow
