"""What a lane has in flight and due at one moment, read in one statement."""

from dataclasses import dataclass
from datetime import datetime

from config.database.prepared import prepared_cursor
from reliability.transport import exchange

# One scan counts the deliveries in flight and finds the first lease to end; the same for slots. Each part has a partial
# index, so the cost does not depend on the size of the table.
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
    """What a lane has at `now`. `in_flight` includes slots, of which the first ends at `first_slot_end`.

    `first_expiry` and `first_due` are the earliest of pending deliveries. `monotonic` is `exchange.now()` just before
    `now` was read: a lease that starts at `now` ends no earlier than counted from it.
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
        """When the next slot becomes free at the latest: the first end of a lease."""
        return min((at for at in (self.first_lease_end, self.first_slot_end) if at is not None), default=None)


def take_snapshot(*, lane_id: int) -> LaneSnapshot:
    """Read the lane's snapshot. Call it under the lane's lock, so that nothing is claimed meanwhile."""
    monotonic = exchange.now()
    with prepared_cursor() as cursor:
        cursor.execute(SNAPSHOT, {"lane": lane_id})
        return LaneSnapshot(monotonic, *cursor.fetchone())
