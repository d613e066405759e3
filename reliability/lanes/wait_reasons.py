"""Explains what pending deliveries wait for. Asks the same limits as `admission.admit`, and takes nothing."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from reliability.models import Breaker, Delivery, DeliveryState, Flag, FlagName, Lane
from reliability.policies import breaker as policy
from reliability.policies import rate

from . import breakers, local_faults

IN_FLIGHT = """
SELECT lane.id, (SELECT count(*) FROM reliability_delivery
        WHERE lane_id = lane.id AND state IN ('sending', 'awaiting_callback'))
    + (SELECT count(*) FROM reliability_slot WHERE lane_id = lane.id AND expires_at > %s)
FROM unnest(%s::int[]) AS lane(id)
"""


class Cause(enum.StrEnum):
    """The kinds of reasons, in the order in which they are checked."""

    HELD = "held"
    DUE = "due"
    SWITCHED_OFF = "switched_off"
    DEMO = "demo"
    PAUSED = "paused"
    MISCONFIGURED = "misconfigured"
    BREAKER = "breaker"
    LIMIT = "limit"
    INSTANCE = "instance"
    RATE = "rate"
    TURN = "turn"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a delivery is not being sent. `until` is when that may change by itself.

    `on` is the id of the delivery or breaker that it waits for. `detail` is an operator's or a breaker's reason;
    `count` of `limit` deliveries are in flight.
    """

    cause: Cause
    until: datetime | None = None
    detail: str = ""
    on: UUID | None = None
    count: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class _Context:
    """Read once per call: the switch, the instance's breaker, and the number in flight per lane."""

    now: datetime
    dispatching: bool
    instance: Breaker
    in_flight: dict[int, int]


def of(*, deliveries: Iterable[Delivery], now: datetime) -> dict[UUID, Wait]:
    """Return the reason for each pending delivery, by its id. Three queries, however many there are.

    The deliveries must have been read with their lanes, workflows and the lanes' breakers (`select_related`).
    """
    pending = [one for one in deliveries if one.state == DeliveryState.PENDING]
    if not pending:
        return {}
    context = _read_context(sorted({one.lane_id for one in pending}), now)
    return {one.pk: _wait(one, context) for one in pending}


def _read_context(lane_ids: list[int], now: datetime) -> _Context:
    with connection.cursor() as cursor:
        cursor.execute(IN_FLIGHT, [now, lane_ids])
        in_flight = dict(cursor.fetchall())
    off = Flag.objects.filter(name=FlagName.DISPATCH, enabled=False).exists()
    return _Context(now, not off, breakers.instance(), in_flight)


def _wait(one: Delivery, context: _Context) -> Wait:
    if one.waits_for is not None:
        return Wait(Cause.HELD, on=one.waits_for)
    if one.due_at > context.now:
        return Wait(Cause.DUE, until=one.due_at)
    return _lane_wait(one.lane, context)


def _lane_wait(lane: Lane, context: _Context) -> Wait:
    """Return why a lane's due deliveries wait."""
    # In the order of `admission.admit`, so that the console names the limit that the dispatcher runs into.
    now, workflow = context.now, lane.workflow
    if not context.dispatching:
        return Wait(Cause.SWITCHED_OFF)
    if workflow.is_paused(now=now):
        return Wait(Cause.PAUSED, until=workflow.paused_until, detail=workflow.paused_reason)
    if (blocker := local_faults.find_blocker(lane=lane, now=now)) is not None:
        return Wait(Cause.MISCONFIGURED, until=blocker.until, detail=blocker.detail)
    own = _if_blocking(breakers.lane_admission(lane=lane, now=now))
    if own is not None:
        return Wait(Cause.BREAKER, until=own.retry_at, detail=lane.breaker.reason, on=lane.breaker.pk)
    limit, ramp = lane.policy.concurrency_limit, lane.breaker.ramp
    limit = limit if ramp is None else min(limit, ramp)  # lowered during the breaker's slow start
    count = context.in_flight.get(lane.pk, 0)
    if count >= limit:
        return Wait(Cause.LIMIT, count=count, limit=limit)
    shared = _if_blocking(policy.admit(snapshot=context.instance.snapshot, now=now))
    if shared is not None:
        return Wait(Cause.INSTANCE, until=shared.retry_at, detail=context.instance.reason, on=context.instance.pk)
    per_minute = lane.policy.rate_limit_per_minute
    granted = rate.grant(tat=lane.rate_tat, now=now, per_minute=per_minute, wanted=1)
    if not granted.count:
        return Wait(Cause.RATE, until=granted.retry_at, limit=per_minute or 0)
    return Wait(Cause.DEMO if workflow.is_demo else Cause.TURN)


def _if_blocking(admitted: policy.Admission) -> policy.Admission | None:
    """Return the admission if it allows nothing, or only a probe; else `None`."""
    return admitted if admitted.allowed == 0 or admitted.probe else None
