"""Faults of our own settings that keep a lane's requests from being sent. The lane waits; no breaker is charged.

A value that cannot be sent is found before anything is claimed. A fault that shows only when a request is made (for
example a missing CA file) blocks the lane for a wait that grows, so that its backlog is not claimed again and again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reliability.models import Lane
from reliability.policies.classification import Outcome
from reliability.policies.error_codes import ErrorCode

from .messages import Sent

FIRST_WAIT_MS, LAST_WAIT_MS = 1000, 60_000
# The code of an attempt whose worker was too slow: no setting is wrong, so the next attempt may go.
LEASE_EXPIRED = ErrorCode.LEASE_RAN_OUT
# Changing a stored value wakes the lane. A variable of the environment changes only with a new process, so the lane is
# checked again at this interval.
CHECK_INTERVAL = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Blocker:
    """What is wrong, with the setting's name, and when the lane is checked again."""

    detail: str
    until: datetime


def find_blocker(*, lane: Lane, now: datetime) -> Blocker | None:
    """Return the local fault that blocks a lane, or `None`."""
    if detail := lane.workflow.local_fault:
        return Blocker(detail, now + CHECK_INTERVAL)
    if lane.fault_until is None or lane.fault_until <= now:
        return None
    # The path or authentication changed since the fault: it may be fixed, so the lane may try at once.
    changed = lane.workflow.route_changed_at
    since = lane.fault_until - timedelta(milliseconds=lane.fault_wait_ms)
    return None if changed is not None and changed > since else Blocker(lane.fault, lane.fault_until)


def record(*, lane: Lane, batch: Sequence[Sent], now: datetime) -> None:
    """Block a locked lane whose attempts could not be sent, longer each time; unblock it once one was sent."""
    local = [one.classified for one in batch if one.classified.outcome is Outcome.MISCONFIGURED_LOCALLY]
    faults = [one for one in local if one.code != LEASE_EXPIRED]
    if faults and lane.fault_until is not None and lane.fault_until > now:
        return  # attempts that were in flight together report one fault, not one each
    if faults:
        wait = min(LAST_WAIT_MS, max(FIRST_WAIT_MS, 2 * lane.fault_wait_ms))
        _save(lane, fault=faults[-1].message, until=now + timedelta(milliseconds=wait), wait_ms=wait)
    elif lane.fault_wait_ms and len(local) < len(batch):
        _save(lane, fault="", until=None, wait_ms=0)


def _save(lane: Lane, *, fault: str, until: datetime | None, wait_ms: int) -> None:
    lane.fault, lane.fault_until, lane.fault_wait_ms = fault, until, wait_ms
    lane.save(update_fields=["fault", "fault_until", "fault_wait_ms"])
