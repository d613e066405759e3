"""Decides how many deliveries of a lane may be sent now. The only place that asks every limit.

The limits, in this order: the dispatch switch, the workflow's pause, local faults, the lane's breaker and concurrency
limit, the instance's breaker, the rate limit.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from reliability.models import Breaker, BreakerState, Lane, LanePolicy
from reliability.policies import breaker as breaker_policy
from reliability.policies import bulkhead, rate
from reliability.policies.breaker import Admission

from . import breakers, local_faults
from .lane_snapshot import LaneSnapshot

# When to ask again while the instance's breaker is locked, or its slow start is used up.
RAMP_WAIT = timedelta(milliseconds=200)
# How often lanes that wait for the instance's probe check whether they may send the next one.
PROBE_CHECK_INTERVAL = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Admitted:
    """How many deliveries may be sent now, whether as a probe, and when to ask again (`None`: nothing to wait for).

    `instance` is the instance's breaker as it was asked: locked if it was not simply closed.
    """

    available: int
    lane_probe: bool = False
    instance_probe: bool = False
    ask_at: datetime | None = None
    instance: Breaker | None = None


def admit(
    *, lane: Lane, policy: LanePolicy, snapshot: LaneSnapshot, capacity: int, instance_breaker: Breaker | None = None
) -> Admitted:
    """Ask every limit of a locked lane, and return how many deliveries may be sent, up to `capacity`.

    `instance_breaker` is the instance's breaker, where this transaction has read it already.
    """
    if not snapshot.dispatch_enabled or lane.workflow.is_demo:
        return Admitted(0)  # nothing to wait for: switching on wakes every lane, and demo data is never sent
    if lane.workflow.is_paused(now=snapshot.now):
        return Admitted(0, ask_at=lane.workflow.paused_until)
    if (blocker := local_faults.find_blocker(lane=lane, now=snapshot.now)) is not None:
        return Admitted(0, ask_at=blocker.until)
    own = breakers.lane_admission(lane=lane, now=snapshot.now)
    available = _available(own, limit=policy.concurrency_limit, in_flight=snapshot.in_flight)
    if not available:
        return Admitted(0, ask_at=own.retry_at or snapshot.slot_free_at)
    try:
        instance, common = _instance_admission(instance_breaker or breakers.instance(), snapshot.now)
    except breakers.InstanceLocked:
        return Admitted(0, ask_at=snapshot.now + RAMP_WAIT)
    available = min(available, _available_for_instance(common, available))
    if not available:
        ask_at = common.retry_at or snapshot.now + RAMP_WAIT
        if instance.state == BreakerState.HALF_OPEN:
            # Another lane's probe may end without a verdict, long before its lease does, and wakes nobody then.
            ask_at = min(ask_at, snapshot.now + PROBE_CHECK_INTERVAL)
        return Admitted(0, ask_at=ask_at)
    granted = rate.grant(
        tat=lane.rate_tat, now=snapshot.now, per_minute=policy.rate_limit_per_minute, wanted=min(available, capacity)
    )
    return Admitted(granted.count, own.probe, common.probe, granted.retry_at, instance)


def _available(admission: Admission, *, limit: int, in_flight: int) -> int:
    if admission.probe:
        return min(1, bulkhead.available(limit=limit, in_flight=in_flight))
    return bulkhead.available(limit=limit, in_flight=in_flight, ramp=admission.allowed)


def _instance_admission(breaker: Breaker, now: datetime) -> tuple[Breaker, Admission]:
    """Ask the instance's breaker. Raises `InstanceLocked`."""
    # A closed breaker is read without its lock, so that lanes do not wait for each other. Only a probe or a slow start
    # is a decision that two lanes must not both take. It is the last row in the lock order (`core.lock_order`).
    if breaker.state != BreakerState.CLOSED or breaker.ramp is not None:
        breaker = breakers.lock_instance_nowait()
    return breaker, breaker_policy.admit(snapshot=breaker.snapshot, now=now)


def _available_for_instance(admission: Admission, wanted: int) -> int:
    if admission.allowed is None:
        return wanted
    if admission.probe or not admission.allowed:
        return min(1, admission.allowed)
    # During the slow start, all lanes together: counted under the breaker's lock, so no two lanes take the same place.
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM reliability_delivery WHERE state = 'sending'")
        return max(0, admission.allowed - int(cursor.fetchone()[0]))
