"""Places of a lane's concurrency limit, for workflows that others than the dispatcher start.

A place is taken under the lane's lock, where the dispatcher counts too: both together never exceed the limit.
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

# How long to wait where nothing says when a place will be free.
RETRY_AFTER = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """A place in the lane of (workflow, tenant), by whom, for how long at the most."""

    workflow: str
    tenant: str = DEFAULT_TENANT
    holder: str = ""
    lease: timedelta = timedelta(minutes=5)


@deadlocks_retried
def acquire(*, request: SlotRequest) -> Slot:
    """Take a place; its lease begins now, by the database's clock. Raises `UnknownWorkflow`, and `LimitReached`."""
    workflow_id = Workflow.objects.filter(slug=request.workflow).values_list("pk", flat=True).first()
    if workflow_id is None:
        raise UnknownWorkflow(errors={"workflow": [f"There is no workflow '{request.workflow}'."]})
    found = Lane.objects.filter(workflow_id=workflow_id, tenant=request.tenant).values_list("pk", flat=True).first()
    with transaction.atomic():
        lane_id = found or opening.open_lane(workflow_id=workflow_id, tenant=request.tenant).pk
        lane = lane_lock.lock(lane_id=lane_id)
        snapshot = lane_snapshot.take_snapshot(lane_id=lane_id)
        limit = lane.policy.concurrency_limit
        if snapshot.in_flight >= limit:
            wait = _retry_after(snapshot.slot_free_at, snapshot.now)
            raise LimitReached(f"All {limit} places of the lane are taken.", retry_after=wait)
        Slot.objects.filter(lane_id=lane_id, expires_at__lte=snapshot.now).delete()
        slot = Slot(lane=lane, holder=request.holder, taken_at=snapshot.now, expires_at=snapshot.now + request.lease)
        slot.save(force_insert=True)
    return slot


def _retry_after(slot_free_at: datetime | None, now: datetime) -> timedelta:
    """Return how long to wait for a place: until the next lease ends, but look again soon, for most end early."""
    if slot_free_at is None:
        return RETRY_AFTER
    return timedelta(seconds=max(1, min(RETRY_AFTER.total_seconds(), math.ceil((slot_free_at - now).total_seconds()))))


def release(*, slot_id: UUID, tenant: str | None = None) -> None:
    """Give a place back, and let what waits for one go. Raises `NotFound`, also where its lease had ended and it
    was cleared away; `tenant` narrows it to that tenant's."""
    rows = Slot.objects.filter(pk=slot_id)
    with transaction.atomic():
        slot = (rows.filter(lane__tenant=tenant) if tenant else rows).first()
        if slot is None or not rows.delete()[0]:
            raise NotFound("There is no such slot: it was given back, or its lease has ended.")
        queue.wake(lane_ids=[slot.lane_id])
