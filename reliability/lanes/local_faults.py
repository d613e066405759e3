"""Faults of our own that keep a lane's requests from being sent: the lane waits, and no breaker is charged.

A value that cannot be sent is seen before anything is claimed. What shows only when a request is made (a CA file that
is missing, say) holds the lane for a while that grows, so that its backlog is not claimed again and again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reliability.models import Lane
from reliability.policies.classification import Outcome
from reliability.policies.error_codes import ErrorCode

from .messages import Sent

FIRST_WAIT_MS, LAST_WAIT_MS = 1000, 60_000
# Of a worker that was held up: nothing is wrong with a setting, and the next attempt may go.
HELD_UP = ErrorCode.LEASE_RAN_OUT
# A stored value changes by a request that wakes the lane; one of the environment only with a new process.
LOOK_AGAIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Hindrance:
    """What is wrong, with the setting's name, and when the lane is looked at again."""

    detail: str
    until: datetime


def hindrance(*, lane: Lane, now: datetime) -> Hindrance | None:
    """Return what keeps a lane's requests from being sent, if anything does."""
    if detail := lane.workflow.local_fault:
        return Hindrance(detail, now + LOOK_AGAIN)
    if lane.fault_until is None or lane.fault_until <= now:
        return None
    changed = lane.workflow.route_changed_at
    since = lane.fault_until - timedelta(milliseconds=lane.fault_wait_ms)
    return None if changed is not None and changed > since else Hindrance(lane.fault, lane.fault_until)


def note(*, lane: Lane, batch: Sequence[Sent], now: datetime) -> None:
    """Hold a locked lane whose attempts could not be sent, longer each time; let it go once one was."""
    local = [one.classified for one in batch if one.classified.outcome is Outcome.MISCONFIGURED_LOCALLY]
    faults = [one for one in local if one.code != HELD_UP]
    if faults and lane.fault_until is not None and lane.fault_until > now:
        return  # of attempts that were under way together, which say nothing new
    if faults:
        wait = min(LAST_WAIT_MS, max(FIRST_WAIT_MS, 2 * lane.fault_wait_ms))
        _keep(lane, fault=faults[-1].message, until=now + timedelta(milliseconds=wait), wait_ms=wait)
    elif lane.fault_wait_ms and len(local) < len(batch):
        _keep(lane, fault="", until=None, wait_ms=0)


def _keep(lane: Lane, *, fault: str, until: datetime | None, wait_ms: int) -> None:
    lane.fault, lane.fault_until, lane.fault_wait_ms = fault, until, wait_ms
    lane.save(update_fields=["fault", "fault_until", "fault_wait_ms"])
