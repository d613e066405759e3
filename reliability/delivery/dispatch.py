"""One look at a lane: settle what came back, take back what was lost, claim what is due under every limit.

Each function is one short transaction under the lane's lock (`FOR NO KEY UPDATE`, which arrivals pass). No
transaction is open while a request is on its way.

One thread works for all lanes, so it waits for no lock of one lane beyond its `LockTimeout`; `LaneLocked`, or a
`DatabaseError` of which `lock_waits.is_conflict` is true, then says that nothing was changed.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction

from config.database.prepared import prepared_cursor
from reliability import queue
from reliability.core import clock, lock_waits
from reliability.lanes import breaker_reports, breakers, local_faults
from reliability.lanes.admission import Admitted, admit
from reliability.lanes.lane_lock import SKIP_LOCKED, WAIT_BRIEFLY, LockedLane, LockTimeout, lock_lane
from reliability.lanes.lane_snapshot import LaneSnapshot, take_snapshot
from reliability.lanes.messages import Claim, Sent
from reliability.models import Breaker, Lane, LanePolicy
from reliability.policies import rate

from . import correlation, lane_expiry, settle

LEASE_MARGIN = timedelta(seconds=10)
# What a lease has left when the last request that it allows is over.
SETTLE_MARGIN = timedelta(seconds=5)
ATTENDED_FOR = timedelta(seconds=5)
# When a lease that ran out is looked at again, where a lock keeps it from being taken back.
BLOCKED_WAIT = timedelta(seconds=1)

CLAIM = """
WITH due AS (
    SELECT id FROM reliability_delivery WHERE lane_id = %(lane)s AND state = 'pending' AND due_at <= %(now)s
        AND waits_for IS NULL AND (expires_at IS NULL OR expires_at > %(now)s)
    ORDER BY due_at LIMIT %(available)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE reliability_delivery AS d SET
    state = 'sending', attempt_count = d.attempt_count + 1, sent_at = %(now)s,
    lease_token = %(token)s, lease_until = %(until)s, reported = NULL
FROM due WHERE d.id = due.id
RETURNING d.id, d.attempt_count, d.retries_used, d.payload, d.idempotency_key, d.stale, d.dead_letter_id IS NOT NULL,
    d.created_at, coalesce(nullif(d.request_id, ''), d.id::text), d.traceparent, d.refused_at
"""


@dataclass(frozen=True, slots=True)
class DispatchResult:
    """What one look brought. `full`: the lane is at its concurrency limit.

    `blocked`: a lock kept an expired lease or delivery from being settled. `unreported`: attempts that the instance's
    breaker, locked by another session, has not recorded yet.
    """

    claims: tuple[Claim, ...]
    full: bool
    fallback_at: datetime | None
    blocked: bool = False
    unreported: Sequence[Sent] = ()


class LaneRelease(enum.Enum):
    """Whether a lane was left; if not, because something is due, or because its barrier has yet to be passed."""

    RELEASED = enum.auto()
    DUE = enum.auto()
    BARRIER = enum.auto()


def run(
    *,
    lane_id: int,
    sent: Sequence[Sent],
    capacity: int,
    fallback_at: datetime | None = None,
    attend: bool = False,
    worker: str = "",
    lock_timeout: LockTimeout = WAIT_BRIEFLY,
) -> DispatchResult:
    """Settle `sent`, then claim up to `capacity` of the lane's due deliveries.

    `fallback_at` is when a wake-up is known to look at the lane if this worker dies; the result's is the one
    known then. With `attend`, or at the lane's limit, arrivals need no wake-up for the next seconds: the caller
    will look again. Raises `LaneLocked` and `Lane.DoesNotExist`.
    """
    with transaction.atomic():
        locked = lock_lane(lane_id=lane_id, lock_timeout=lock_timeout)
        lane, policy = locked.lane, locked.lane.policy
        if sent:
            _settle(locked, policy, sent, worker)
        snapshot = take_snapshot(lane_id=lane_id)
        expired, blocked = _has_expired(snapshot), False
        if expired:
            blocked = not lane_expiry.settle_expired(lane=lane, policy=policy, now=snapshot.now)
            snapshot = take_snapshot(lane_id=lane_id)
        # Last: whoever holds the instance's breaker waits for no row of a lane (`reliability.core.lock_order`).
        instance, unreported = _report_to_instance(locked, sent) if sent else (locked.instance_breaker, ())
        admitted = Admitted(0)
        if capacity:
            admitted = admit(lane=lane, policy=policy, snapshot=snapshot, capacity=capacity, instance_breaker=instance)
        claims = _claim(lane, policy, admitted, snapshot) if admitted.available and snapshot.first_due else ()
        in_flight = snapshot.in_flight + len(claims)
        full = in_flight >= policy.concurrency_limit
        if attend or full:
            _attend(lane, snapshot.now)
        if in_flight:
            fallback_at = _plan_fallback(lane, policy, snapshot, fallback_at)
    return DispatchResult(claims, full, fallback_at, blocked, unreported)


def release_lane(
    *, lane_id: int, needs_barrier: bool = False, blocked: bool = False, lock_timeout: LockTimeout = WAIT_BRIEFLY
) -> LaneRelease:
    """Leave the lane, with a wake-up planned for whatever it waits for.

    Where something is due that may go, nothing was left, and the caller has to look again. Likewise where others may
    still rely on this worker (`needs_barrier`, or a promise to look by itself): any promise is withdrawn, and the
    barrier has to be passed before the next look. `blocked`: what ran out was found locked just now. Raises as `run`
    does.
    """
    with transaction.atomic():
        locked = lock_lane(lane_id=lane_id, lock_timeout=lock_timeout)
        lane = locked.lane
        if lane.attended_until is not None:
            # Whoever read the promise holds the advisory lock, shared: so the barrier comes after its withdrawal.
            Lane.objects.filter(pk=lane_id).update(attended_until=None)
            needs_barrier = True
        if needs_barrier and not queue.try_barrier(lane_id=lane_id):
            return LaneRelease.BARRIER
        snapshot = take_snapshot(lane_id=lane_id)
        admitted = admit(
            lane=lane, policy=lane.policy, snapshot=snapshot, capacity=1, instance_breaker=locked.instance_breaker
        )
        due_now = snapshot.first_due is not None and snapshot.first_due <= snapshot.now
        expired = _has_expired(snapshot)
        if (due_now and admitted.available) or (expired and not blocked):
            return LaneRelease.DUE
        blocked_until = admitted.ask_at if due_now else snapshot.first_due
        moments = [at for at in (blocked_until, snapshot.first_lease_end, snapshot.first_expiry) if at is not None]
        if moments:
            soonest = snapshot.now + BLOCKED_WAIT if expired else min(moments)
            queue.wake_at(lane_id=lane_id, at=soonest)
    return LaneRelease.RELEASED


def report_to_instance(*, batch: Sequence[Sent]) -> bool:
    """Tell the instance's breaker of attempts that are settled; return whether it could be locked."""
    try:
        with lock_waits.transaction_with_lock_timeout(SKIP_LOCKED.timeout):
            breaker_reports.report_to_instance(breaker=breakers.instance(), batch=batch, now=clock.now())
    except breakers.InstanceLocked:
        return False
    return True


def _has_expired(snapshot: LaneSnapshot) -> bool:
    """Whether a lease, or a delivery's time to be sent at all, is over."""
    return any(at is not None and at <= snapshot.now for at in (snapshot.first_lease_end, snapshot.first_expiry))


def _attend(lane: Lane, now: datetime) -> None:
    """Promise to look again; renewed when half of it is over. A wake-up stands by at its end."""
    if lane.attended_until is None or lane.attended_until - now < ATTENDED_FOR / 2:
        Lane.objects.filter(pk=lane.pk).update(attended_until=now + ATTENDED_FOR)
        queue.wake_at(lane_id=lane.pk, at=now + ATTENDED_FOR)


def _plan_fallback(lane: Lane, policy: LanePolicy, snapshot: LaneSnapshot, fallback_at: datetime | None) -> datetime:
    """Plan a look for when the first lease ends, unless one is still to come."""
    if fallback_at is not None and fallback_at > snapshot.now:
        return fallback_at
    # A lease that has ended, and whose row another session has locked, would have it looked at without a pause.
    ends = max(snapshot.first_lease_end or lease_end(policy, snapshot.now), snapshot.now + BLOCKED_WAIT)
    queue.wake_at(lane_id=lane.pk, at=ends)
    return ends


def lease_end(policy: LanePolicy, now: datetime) -> datetime:
    """Return the end of a lease taken at `now`: the request's time, its body's, and a margin to settle in."""
    return now + 2 * policy.timeout + LEASE_MARGIN


def send_by(policy: LanePolicy, *, since: float) -> float:
    """Return the last moment to send under a lease taken at `since`; both are moments of `exchange.now()`.

    The lease ends by the database's clock, in another machine perhaps. This moment is this machine's own, so that a
    worker which was stopped, or whose machine slept, knows without asking anybody that it may not send any more.
    """
    return since + (policy.timeout + LEASE_MARGIN - SETTLE_MARGIN).total_seconds()


def _claim(lane: Lane, policy: LanePolicy, admitted: Admitted, snapshot: LaneSnapshot) -> tuple[Claim, ...]:
    now = snapshot.now
    token, until = uuid4(), lease_end(policy, now)
    latest = send_by(policy, since=snapshot.monotonic)
    with prepared_cursor() as cursor:
        values: dict[str, Any] = {
            "lane": lane.pk,
            "now": now,
            "available": admitted.available,
            "token": token,
            "until": until,
        }
        cursor.execute(CLAIM, values)
        claims = tuple(_claim_of(row, lane, policy, admitted, token, snapshot, latest) for row in cursor.fetchall())
    if claims:
        _record_usage(lane, policy, admitted, len(claims), now, until)
    return claims


def _record_usage(
    lane: Lane, policy: LanePolicy, admitted: Admitted, count: int, now: datetime, until: datetime
) -> None:
    """Write down what the claims use up: probes and the rate."""
    if admitted.lane_probe:
        breakers.begin_probe(breaker=lane.breaker, now=now, until=until)
    if admitted.instance_probe and admitted.instance is not None:
        breakers.begin_probe(breaker=admitted.instance, now=now, until=until)
    if policy.rate_limit_per_minute is not None:
        grant = rate.grant(tat=lane.rate_tat, now=now, per_minute=policy.rate_limit_per_minute, wanted=count)
        Lane.objects.filter(pk=lane.pk).update(rate_tat=grant.tat)


def _claim_of(
    row: tuple[UUID, int, int, str, str, bool, bool, datetime, str, str, datetime | None],
    lane: Lane,
    policy: LanePolicy,
    admitted: Admitted,
    token: UUID,
    snapshot: LaneSnapshot,
    latest: float,
) -> Claim:
    delivery_id, number, retries_used, payload, key, stale, is_replay, created_at, request_id, traceparent, _ = row
    return Claim(
        delivery_id=delivery_id,
        lane_id=lane.pk,
        workflow=lane.workflow.slug,
        tenant=lane.tenant,
        number=number,
        retries_used=retries_used,
        token=token,
        payload=payload,
        idempotency_key=key,
        url=lane.workflow.url,
        authentication=lane.workflow.authentication,
        signing_secret=lane.workflow.signing_secret,
        stale=stale,
        is_replay=is_replay,
        created_at=created_at,
        refused_at=row[-1],
        request_id=request_id,
        traceparent=traceparent,
        policy=policy,
        lane_probe=admitted.lane_probe,
        instance_probe=admitted.instance_probe,
        claimed_at=snapshot.now,
        claimed_monotonic=snapshot.monotonic,
        send_by=latest,
    )


def _settle(locked: LockedLane, policy: LanePolicy, batch: Sequence[Sent], worker: str) -> None:
    """Write down what came back, and tell the lane's breaker."""
    lane, now = locked.lane, locked.now
    passed_at = breaker_reports.passed_at(lane=lane, batch=batch)
    early = settle.settle_sent(batch=batch, now=now, worker=worker, passed_at=passed_at)
    breaker_reports.report_to_lane(lane=lane, policy=policy, batch=batch, now=now, passed_at=passed_at)
    local_faults.record(lane=lane, batch=batch, now=now)
    correlation.apply_early_results(lane=lane, delivery_ids=early, now=now)


def _report_to_instance(locked: LockedLane, batch: Sequence[Sent]) -> tuple[Breaker | None, Sequence[Sent]]:
    """Return the instance's breaker once it was told of a batch, and what it has yet to be told for it was locked."""
    try:
        breaker = locked.instance_breaker or breakers.instance()
        return breaker_reports.report_to_instance(breaker=breaker, batch=batch, now=locked.now), ()
    except breakers.InstanceLocked:
        return locked.instance_breaker, batch
