"""The operator's hand on deliveries and workflows: cancel, send now, pause, resume."""

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
    """Withdraw a delivery that is not being sent. Raises `NotFound`, and `NotCancellable` once it is too late."""
    with transaction.atomic():
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
    """Make a waiting delivery due at once; limits and breakers still hold. Raises as `cancel` does."""
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
    """Let a workflow's deliveries wait until `until`, or until it is resumed. Raises `NotFound`."""
    with transaction.atomic():
        workflow = _lock_workflow(workflow_id)
        workflow.paused, workflow.paused_reason, workflow.paused_until = True, actor.reason, until
        workflow.save(update_fields=["paused", "paused_reason", "paused_until", "updated_at"])
        details = {"until": until.isoformat()} if until else {}
        audit.record(actor=actor, action="pause", now=now, target=workflow, details=details)
        if until is not None:
            queue.wake_waiting(workflow_id=workflow.pk)
    return workflow


@deadlocks_retried
def resume(*, workflow_id: UUID, actor: Actor, now: datetime) -> Workflow:
    """Let a paused workflow's deliveries go on. Raises `NotFound`."""
    with transaction.atomic():
        workflow = _lock_workflow(workflow_id)
        workflow.paused, workflow.paused_reason, workflow.paused_until = False, "", None
        workflow.save(update_fields=["paused", "paused_reason", "paused_until", "updated_at"])
        audit.record(actor=actor, action="resume", now=now, target=workflow)
        queue.wake_waiting(workflow_id=workflow.pk)
    return workflow


def workflow_id_of(*, slug: str) -> UUID:
    """Return the id of the workflow of that slug. Raises `NotFound`."""
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
    workflow = Workflow.objects.select_for_update(no_key=True).filter(pk=workflow_id).first()
    if workflow is None:
        raise NotFound("There is no such workflow.")
    return workflow
