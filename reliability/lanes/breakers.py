"""Stores what the breaker policy decides, for lanes and for the n8n instance.

A lane's breaker is written under its lane's lock. The instance's breaker is locked after any lane (`core.lock_order`).
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from reliability import queue
from reliability.core import audit
from reliability.core.audit import Actor
from reliability.core.lock_waits import deadlocks_retried
from reliability.errors import NotFound
from reliability.models import Breaker, BreakerTransition, Delivery, Lane, Scope
from reliability.models.policy import instance_breaker_policy
from reliability.models.rows import Columns
from reliability.policies import breaker as policy

logger = logging.getLogger(__name__)


COLUMNS = Columns(Breaker, "b")
INSTANCE = f"SELECT {COLUMNS.sql} FROM {Breaker._meta.db_table} b WHERE scope = 'instance'"  # noqa: S608  # our own names
# Waiting deliveries are counted up to this many: counting all of a long backlog would take seconds.
COUNT_LIMIT = 10_000
WAITING = """
SELECT lane.id, (SELECT count(*) FROM (SELECT 1 FROM reliability_delivery
    WHERE lane_id = lane.id AND state = 'pending' LIMIT %s) AS capped)
FROM unnest(%s::int[]) AS lane(id)
"""
ALL_WAITING = "SELECT count(*) FROM (SELECT 1 FROM reliability_delivery WHERE state = 'pending' LIMIT %s) AS capped"


class InstanceLocked(Exception):
    """Another session holds the instance's breaker."""


def instance(*, locked: bool = False) -> Breaker:
    """Return the n8n instance's breaker, created if needed; `locked` locks its row (`core.lock_order`, last)."""
    found = _instance(" FOR NO KEY UPDATE" if locked else "")
    if found is None:
        Breaker.objects.bulk_create([Breaker(scope=Scope.INSTANCE)], ignore_conflicts=True)
        found = _instance(" FOR NO KEY UPDATE" if locked else "")
    assert found is not None  # noqa: S101  # it was made above, and nothing deletes it
    return found


def lock_instance_nowait() -> Breaker:
    """Lock the instance's breaker without waiting, and return it. Raises `InstanceLocked`."""
    # A dispatcher never waits for this row: all lanes of its process would wait behind the session that holds it.
    found = _instance(" FOR NO KEY UPDATE SKIP LOCKED")
    if found is None and _instance("") is not None:
        raise InstanceLocked
    return found or instance(locked=True)


def _instance(lock: str) -> Breaker | None:
    with connection.cursor() as cursor:
        cursor.execute(INSTANCE + lock)
        row = cursor.fetchone()
    return COLUMNS.instance(row) if row is not None else None


def lane_admission(*, lane: Lane, now: datetime) -> policy.Admission:
    """Return what a lane's breaker admits."""
    # Opened before the path or authentication was changed: the change may be the fix, so a probe may go at once.
    snapshot, changed = lane.breaker.snapshot, lane.workflow.route_changed_at
    if snapshot.state is policy.State.OPEN and changed and snapshot.opened_at and snapshot.opened_at < changed:
        snapshot = replace(snapshot, next_probe_at=None)
    return policy.admit(snapshot=snapshot, now=now)


def policy_of(breaker: Breaker) -> policy.Policy:
    """Return the policy of a breaker, of either scope."""
    return breaker.lane.policy.breaker if breaker.lane is not None else instance_breaker_policy()


def record_results(
    *,
    breaker: Breaker,
    rules: policy.Policy,
    reports: Iterable[policy.Report],
    limit: int,
    now: datetime,
) -> list[policy.Transition]:
    """Record attempts' reports on a locked breaker, save it, and return the changes of state."""
    snapshot = breaker.snapshot
    transitions = []
    for report in reports:
        verdict = policy.record(snapshot=snapshot, policy=rules, report=report, now=now, limit=limit)
        snapshot = verdict.snapshot
        if verdict.transition is not None:
            transitions.append(verdict.transition)
    _save(breaker, snapshot, transitions, actor="backstop", now=now)
    return transitions


def begin_probe(*, breaker: Breaker, now: datetime, until: datetime) -> None:
    """Record on a locked breaker that a probe is in flight until `until` at most, when its lease ends."""
    verdict = policy.begin_probe(snapshot=breaker.snapshot, now=now, lease=until - now)
    _save(breaker, verdict.snapshot, [verdict.transition], actor="backstop", now=now)


def release_probe(*, breaker: Breaker) -> None:
    """Release the probe of a locked breaker, whose result was neither a success nor a failure."""
    breaker.save_snapshot(policy.release_probe(snapshot=breaker.snapshot))


@deadlocks_retried
def reset(*, breaker_id: UUID, actor: Actor, now: datetime) -> Breaker:
    """Close a breaker for an operator, and wake the lanes that wait for it. Raises `NotFound`."""
    with transaction.atomic():
        breaker = lock_breaker(breaker_id=breaker_id)
        verdict = policy.reset(snapshot=breaker.snapshot, reason=actor.reason)
        _save(breaker, verdict.snapshot, [verdict.transition], actor=actor.name, now=now)
        audit.record(actor=actor, action="reset_breaker", now=now, target=breaker)
        _wake(breaker)
    return breaker


@deadlocks_retried
def force_open(*, breaker_id: UUID, actor: Actor, now: datetime, until: datetime | None = None) -> Breaker:
    """Force a breaker open until `until`, or until it is reset. Raises `NotFound`."""
    with transaction.atomic():
        breaker = lock_breaker(breaker_id=breaker_id)
        verdict = policy.force_open(snapshot=breaker.snapshot, now=now, reason=actor.reason, until=until)
        _save(breaker, verdict.snapshot, [verdict.transition], actor=actor.name, now=now)
        details = {"until": until.isoformat()} if until else {}
        audit.record(actor=actor, action="force_open_breaker", now=now, target=breaker, details=details)
        if until is not None:
            _wake(breaker)  # so that a check is planned for `until`
    return breaker


def lock_breaker(*, breaker_id: UUID) -> Breaker:
    """Lock a breaker and return it: by its lane's row, or by its own if it is the instance's. Raises `NotFound`."""
    found = Breaker.objects.filter(pk=breaker_id).first()
    if found is None:
        raise NotFound("There is no such breaker.")
    if found.lane_id is None:
        return instance(locked=True)
    Lane.objects.select_for_update(no_key=True).get(pk=found.lane_id)
    # Read again: the row read above may have changed while the lock was waited for.
    return Breaker.objects.select_related("lane__workflow").get(pk=breaker_id)


def waiting(*, breaker: Breaker) -> int:
    """Return how many deliveries wait in the breaker's lane, or in all lanes for the instance's breaker."""
    rows = Delivery.objects.pending()
    return (rows.filter(lane_id=breaker.lane_id) if breaker.lane_id is not None else rows).count()


def waiting_counts(*, breakers: Iterable[Breaker]) -> dict[UUID, int]:
    """Return, per breaker, how many deliveries wait in its lane (or in all of them), up to `COUNT_LIMIT` each."""
    found = list(breakers)
    with connection.cursor() as cursor:
        cursor.execute(WAITING, [COUNT_LIMIT, [one.lane_id for one in found if one.lane_id is not None]])
        counts = dict(cursor.fetchall())
        if any(one.lane_id is None for one in found):
            cursor.execute(ALL_WAITING, [COUNT_LIMIT])
            counts[None] = cursor.fetchone()[0]
    return {one.pk: counts.get(one.lane_id, 0) for one in found}


def _wake(breaker: Breaker) -> None:
    if breaker.lane_id is None:
        queue.wake_waiting()
    else:
        queue.wake(lane_ids=[breaker.lane_id])


def _save(
    breaker: Breaker,
    snapshot: policy.Snapshot,
    transitions: Iterable[policy.Transition | None],
    *,
    actor: str,
    now: datetime,
) -> None:
    breaker.save_snapshot(snapshot)
    for change in transitions:
        if change is None:
            continue
        BreakerTransition.objects.create(
            breaker=breaker,
            from_state=change.from_state,
            to_state=change.to_state,
            reason=change.reason,
            actor=actor,
            at=now,
        )
        fields = {"breaker": str(breaker), "from": change.from_state, "to": change.to_state, "actor": actor}
        # Only the code of the reason: the rest may be n8n's own text, which may repeat a payload.
        logger.warning("breaker_transition", extra={**fields, "reason": change.reason.partition(":")[0]})
