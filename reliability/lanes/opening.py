"""Creates lanes: the lane of (workflow, tenant) and its breaker, when first needed."""

from uuid import UUID

from reliability.models import Breaker, Lane, Scope


def open_lane(*, workflow_id: UUID, tenant: str) -> Lane:
    """Return the lane of (workflow, tenant), created with its breaker if there was none."""
    # ON CONFLICT DO NOTHING: two requests may create the same lane at once, and neither fails.
    Lane.objects.bulk_create([Lane(workflow_id=workflow_id, tenant=tenant)], ignore_conflicts=True)
    lane = Lane.objects.get(workflow_id=workflow_id, tenant=tenant)
    Breaker.objects.bulk_create([Breaker(scope=Scope.LANE, lane=lane)], ignore_conflicts=True)
    return lane
