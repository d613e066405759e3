"""Slots: places of a lane's concurrency limit for workflows that something other than the dispatcher starts.

A slot is taken under the lane's lock, where the dispatcher counts too, so that both together never exceed the limit.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from reliability import queue
from reliability.core.lock_waits import deadlocks_retried
from reliability.errors import LimitReached, NotFound, UnknownWorkflow
from reliability.models import DEFAULT_TENANT, Lane, Slot, Workflow

from . import lane_lock, lane_snapshot, opening

# When to try again if nothing says when a slot will be free.
RETRY_AFTER = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """A request for a slot in the lane of (workflow, tenant): who asks, and the lease."""

    workflow: str
    tenant: str = DEFAULT_TENANT
    holder: str = ""
    lease: timedelta = timedelta(minutes=5)


@deadlocks_retried
def acquire(*, request: SlotRequest) -> Slot:
    """Take a slot; its lease begins now by the database's clock. Raises `UnknownWorkflow` and `LimitReached`."""
    workflow_id = Workflow.objects.filter(slug=request.workflow).values_list("pk", flat=True).first()
    if workflow_id is None:
        raise UnknownWorkflow(errors={"workflow": [f"There is no workflow '{request.workflow}'."]})
    found = Lane.objects.filter(workflow_id=workflow_id, tenant=request.tenant).values_list("pk", flat=True).first()
    with transaction.atomic():
        lane_id = found or opening.open_lane(workflow_id=workflow_id, tenant=request.tenant).pk
        # The lane's lock (`core.lock_order`) comes before the count: else a dispatcher could claim in between.
        lane = lane_lock.lock(lane_id=lane_id)
        snapshot = lane_snapshot.take_snapshot(lane_id=lane_id)
        limit = lane.policy.concurrency_limit
        if snapshot.in_flight >= limit:
            wait = _retry_after(snapshot.slot_free_at, snapshot.now)
            raise LimitReached(f"All {limit} slots of the lane are in use.", retry_after=wait)
        Slot.objects.filter(lane_id=lane_id, expires_at__lte=snapshot.now).delete()
        slot = Slot(lane=lane, holder=request.holder, taken_at=snapshot.now, expires_at=snapshot.now + request.lease)
        slot.save(force_insert=True)
    return slot


def _retry_after(slot_free_at: datetime | None, now: datetime) -> timedelta:
    """Return how long to wait for a slot: until the next lease ends, at most `RETRY_AFTER`, since most end early."""
    if slot_free_at is None:
        return RETRY_AFTER
    return timedelta(seconds=max(1, min(RETRY_AFTER.total_seconds(), math.ceil((slot_free_at - now).total_seconds()))))


def release(*, slot_id: UUID, tenant: str | None = None) -> None:
    """Release a slot and wake its lane; `tenant` restricts it to that tenant's slots.

    Raises `NotFound`, also if its lease had ended and it was deleted.
    """
    rows = Slot.objects.filter(pk=slot_id)
    with transaction.atomic():
        slot = (rows.filter(lane__tenant=tenant) if tenant else rows).first()
        if slot is None or not rows.delete()[0]:
            raise NotFound("There is no such slot: it was released, or its lease has ended.")
        queue.wake(lane_ids=[slot.lane_id])
