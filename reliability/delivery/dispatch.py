"""One check of a lane: settle finished attempts, settle expired leases, claim what is due under every limit.

Each function is one short transaction under the lane's lock (`core.lock_order`). No transaction is open while a request
is being sent.

One thread works for all lanes, so it never waits for a lock of one lane longer than its `LockTimeout`. `LaneLocked`, or
a `DatabaseError` for which `lock_waits.is_conflict` is true, means that nothing was changed.
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

# Added to the time of a request and of its body: for waiting in the pool and for settling.
LEASE_MARGIN = timedelta(seconds=10)
# What is left of a lease, at least, when the last request that it allows has ended.
SETTLE_MARGIN = timedelta(seconds=5)
# For how long a dispatcher promises to check a busy lane by itself, so that arrivals write no wake-ups.
ATTENDED_FOR = timedelta(seconds=5)
# When an expired lease is tried again if a lock kept it from being settled.
BLOCKED_WAIT = timedelta(seconds=1)

# SKIP LOCKED: a delivery that an operator is cancelling does not hold up the others. The deliveries come after their
# lane in the lock order. `reported` belongs to the attempt before.
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
    """The result of one check. `full`: the lane is at its concurrency limit.

    `fallback_at`: when a wake-up will check the lane if this worker dies.

    `blocked`: a lock kept an expired lease or delivery from being settled. `unreported`: attempts that the instance's
    breaker, locked by another session, has not recorded yet.
    """

    claims: tuple[Claim, ...]
    full: bool
    fallback_at: datetime | None
    blocked: bool = False
    unreported: Sequence[Sent] = ()


class LaneRelease(enum.Enum):
    """Whether a lane was released; if not, because something is due, or its barrier could not be passed yet."""

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

    `fallback_at` is when a wake-up will check the lane if this worker dies, as the last check returned it. With
    `attend`, or at the lane's limit, arrivals need no wake-up for the next seconds, since the caller promises to check
    the lane again. Raises `LaneLocked` and `Lane.DoesNotExist`.
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
        # After everything else: the instance's breaker is the last row in the lock order (`core.lock_order`).
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

    If something is due that may be sent, the lane is not released, and the caller has to check it again. The same if
    other transactions may still rely on this worker (`needs_barrier`, or a promise to check): the promise is withdrawn,
    and the barrier has to be passed before the next check. `blocked`: what has expired was locked just now. Raises as
    `run` does.
    """
    with transaction.atomic():
        locked = lock_lane(lane_id=lane_id, lock_timeout=lock_timeout)
        lane = locked.lane
        if lane.attended_until is not None:
            # First withdraw the promise, then pass the barrier: a transaction that read the promise holds the advisory
            # lock (shared) until it has committed. In the other order one could rely on a promise that nobody keeps.
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
    """Report settled attempts to the instance's breaker; return whether its row could be locked."""
    try:
        with lock_waits.transaction_with_lock_timeout(SKIP_LOCKED.timeout):
            breaker_reports.report_to_instance(breaker=breakers.instance(), batch=batch, now=clock.now())
    except breakers.InstanceLocked:
        return False
    return True


def _has_expired(snapshot: LaneSnapshot) -> bool:
    """Whether a lease or a delivery has expired."""
    return any(at is not None and at <= snapshot.now for at in (snapshot.first_lease_end, snapshot.first_expiry))


def _attend(lane: Lane, now: datetime) -> None:
    """Promise to check the lane again, with a wake-up at its end as the fallback."""
    # Renewed when half of it is over, not each time: an UPDATE and a wake-up per check would cost more than they save.
    if lane.attended_until is None or lane.attended_until - now < ATTENDED_FOR / 2:
        Lane.objects.filter(pk=lane.pk).update(attended_until=now + ATTENDED_FOR)
        queue.wake_at(lane_id=lane.pk, at=now + ATTENDED_FOR)


def _plan_fallback(lane: Lane, policy: LanePolicy, snapshot: LaneSnapshot, fallback_at: datetime | None) -> datetime:
    """Plan a check for when the first lease ends, unless one is planned already; return its time."""
    if fallback_at is not None and fallback_at > snapshot.now:
        return fallback_at
    # At least `BLOCKED_WAIT` ahead: an expired lease whose row is locked would make the worker check without a pause.
    ends = max(snapshot.first_lease_end or lease_end(policy, snapshot.now), snapshot.now + BLOCKED_WAIT)
    queue.wake_at(lane_id=lane.pk, at=ends)
    return ends


def lease_end(policy: LanePolicy, now: datetime) -> datetime:
    """Return the end of a lease taken at `now`: twice the policy's timeout, and a margin."""
    return now + 2 * policy.timeout + LEASE_MARGIN


def send_by(policy: LanePolicy, *, since: float) -> float:
    """Return the last moment to send under a lease taken at `since`; both are moments of `exchange.now()`."""
    # The lease ends by the database's clock, possibly on another machine. This moment is by this machine's own clock,
    # so a worker that was stopped, or whose machine was suspended, knows without a query that it must not send any
    # more.
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
    """Record what the claims use: probes and the rate limit."""
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
    """Record finished attempts, and report them to the lane's breaker."""
    # Results of n8n that came before the replies are applied last: they correct what the replies said.
    lane, now = locked.lane, locked.now
    passed_at = breaker_reports.passed_at(lane=lane, batch=batch)
    early = settle.settle_sent(batch=batch, now=now, worker=worker, passed_at=passed_at)
    breaker_reports.report_to_lane(lane=lane, policy=policy, batch=batch, now=now, passed_at=passed_at)
    local_faults.record(lane=lane, batch=batch, now=now)
    correlation.apply_early_results(lane=lane, delivery_ids=early, now=now)


def _report_to_instance(locked: LockedLane, batch: Sequence[Sent]) -> tuple[Breaker | None, Sequence[Sent]]:
    """Report a batch to the instance's breaker; return the breaker, and the attempts that it could not record yet."""
    try:
        breaker = locked.instance_breaker or breakers.instance()
        return breaker_reports.report_to_instance(breaker=breaker, batch=batch, now=locked.now), ()
    except breakers.InstanceLocked:
        return locked.instance_breaker, batch
