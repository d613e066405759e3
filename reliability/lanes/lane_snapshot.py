"""What a lane holds at one moment, read in one statement."""

from dataclasses import dataclass
from datetime import datetime

from config.database.prepared import prepared_cursor
from reliability.transport import exchange

# One scan counts what is in flight and finds the first end among it; the same for slots.
SNAPSHOT = """
SELECT clock_timestamp(), in_flight.count + slots.count, in_flight.ends,
    (SELECT min(expires_at) FROM reliability_delivery
        WHERE lane_id = %(lane)s AND state = 'pending' AND expires_at IS NOT NULL),
    (SELECT min(due_at) FROM reliability_delivery
        WHERE lane_id = %(lane)s AND state = 'pending' AND waits_for IS NULL),
    slots.ends,
    NOT EXISTS (SELECT 1 FROM reliability_flag WHERE name = 'dispatch' AND NOT enabled)
FROM (SELECT count(*), min(lease_until) AS ends FROM reliability_delivery
        WHERE lane_id = %(lane)s AND state IN ('sending', 'awaiting_callback')) AS in_flight,
    (SELECT count(*), min(expires_at) AS ends FROM reliability_slot
        WHERE lane_id = %(lane)s AND expires_at > clock_timestamp()) AS slots
"""


@dataclass(frozen=True, slots=True)
class LaneSnapshot:
    """What a lane holds at `now`. `in_flight` counts slots that others hold, whose first end is `first_slot_end`.

    `monotonic` is a moment of `exchange.now()`, just before `now` was asked for.
    """

    monotonic: float
    now: datetime
    in_flight: int
    first_lease_end: datetime | None
    first_expiry: datetime | None
    first_due: datetime | None
    first_slot_end: datetime | None
    dispatch_enabled: bool

    @property
    def slot_free_at(self) -> datetime | None:
        """When a place within the limit becomes free at the latest, by a lease's end."""
        return min((at for at in (self.first_lease_end, self.first_slot_end) if at is not None), default=None)


def take_snapshot(*, lane_id: int) -> LaneSnapshot:
    """Return what the lane holds now."""
    monotonic = exchange.now()
    with prepared_cursor() as cursor:
        cursor.execute(SNAPSHOT, {"lane": lane_id})
        return LaneSnapshot(monotonic, *cursor.fetchone())
