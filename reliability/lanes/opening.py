"""Opens lanes: the lane of a workflow and a tenant, made with its breaker when it is first needed."""

from uuid import UUID

from reliability.models import Breaker, Lane, Scope


def open_lane(*, workflow_id: UUID, tenant: str) -> Lane:
    """Return the lane of (workflow, tenant), made with its breaker if there was none."""
    Lane.objects.bulk_create([Lane(workflow_id=workflow_id, tenant=tenant)], ignore_conflicts=True)
    lane = Lane.objects.get(workflow_id=workflow_id, tenant=tenant)
    Breaker.objects.bulk_create([Breaker(scope=Scope.LANE, lane=lane)], ignore_conflicts=True)
    return lane
