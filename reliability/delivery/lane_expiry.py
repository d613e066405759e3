"""Settles what has expired in a lane, under its lock: leases without a result, and expired deliveries."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from django.db import DatabaseError, connection, transaction

from reliability.core import lock_waits
from reliability.lanes.lane_lock import SKIP_LOCKED
from reliability.models import Lane, LanePolicy

from . import correlation, lease_expiry, rollups, settle
from .attempt_log import ExpiredLease
from .rollups import Tally
from .settle import FinalFailure

T = TypeVar("T")

# SKIP LOCKED in both: rows that another session has locked are left to a later check.
EXPIRED_LEASES = """
SELECT id, attempt_count, retries_used, sent_at, state = 'awaiting_callback', coalesce(nullif(request_id, ''), id::text)
FROM reliability_delivery
WHERE lane_id = %s AND state IN ('sending', 'awaiting_callback') AND lease_until <= %s
ORDER BY lease_until LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED
"""
EXPIRED_DELIVERIES = """
SELECT id FROM reliability_delivery WHERE lane_id = %s AND state = 'pending' AND expires_at <= %s
ORDER BY expires_at LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED
"""
EXPIRE_DELIVERIES = """
UPDATE reliability_delivery SET state = 'dead', finished_at = %s, last_error = %s WHERE id = ANY(%s)
"""
EXPIRED_ERROR = "expired: The delivery expired before it could be sent."
# How many lock conflicts a check meets before it leaves the rest to the next one: each costs a lock time-out.
CONFLICTS = 10


def settle_expired(*, lane: Lane, policy: LanePolicy, now: datetime) -> bool:
    """Settle up to 500 expired leases and as many expired deliveries; return whether no lock was in the way."""
    with connection.cursor() as cursor:
        cursor.execute(EXPIRED_LEASES, [lane.pk, now])
        leases = [ExpiredLease(*row) for row in cursor.fetchall()]
        cursor.execute(EXPIRED_DELIVERIES, [lane.pk, now])
        expired = [row[0] for row in cursor.fetchall()]
    # Nothing found, although something has expired: all of it is locked.
    free = bool(leases or expired)
    free &= _isolate_conflicts(leases, lambda some: _settle_leases(lane, policy, some, now))
    free &= _isolate_conflicts(expired, lambda some: _expire(lane, some, now))
    return free


def _isolate_conflicts(items: Sequence[T], work: Callable[[Sequence[T]], None]) -> bool:
    """Call `work` with the items, except those whose rows are locked; return whether none was locked."""
    # A group that meets a lock is halved until the locked rows are alone. So one locked dead letter does not stop its
    # whole lane. The savepoint undoes only the group.
    groups, conflicts = [items] if items else [], 0
    while groups and conflicts < CONFLICTS:
        group = groups.pop()
        try:
            with transaction.atomic():
                work(group)
        except DatabaseError as error:
            if not lock_waits.is_conflict(error):
                raise
            conflicts += 1
            if half := len(group) // 2:
                groups += [group[:half], group[half:]]
            # From the first conflict on, wait as briefly as possible: all other lanes wait too. The setting made within
            # the savepoint would be rolled back, so it is made here.
            with connection.cursor() as cursor:
                cursor.execute(lock_waits.SET_LOCK_TIMEOUT, [lock_waits.milliseconds(SKIP_LOCKED.timeout)])
    return not conflicts


def _settle_leases(lane: Lane, policy: LanePolicy, leases: Sequence[ExpiredLease], now: datetime) -> None:
    lease_expiry.settle_expired(lane_id=lane.pk, leases=leases, policy=policy, now=now)
    correlation.apply_early_results(lane=lane, delivery_ids=[one.delivery_id for one in leases], now=now)


def _expire(lane: Lane, ids: Sequence[UUID], now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(EXPIRE_DELIVERIES, [now, EXPIRED_ERROR, list(ids)])
    code, _, message = EXPIRED_ERROR.partition(": ")
    settle.finish(delivered=[], dead=[FinalFailure(one, code, message) for one in ids], now=now)
    rollups.count(lane_id=lane.pk, tally=Tally(dead=len(ids)), now=now)
