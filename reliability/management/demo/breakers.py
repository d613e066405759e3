"""The states and the transitions of the demo's breakers."""

from datetime import datetime, timedelta
from typing import Any

from reliability.models import Breaker, BreakerState, BreakerTransition
from reliability.policies.breaker import EPOCH, MILLISECOND

from . import fixtures, week
from .builder import Builder

CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN
HALF, FORCED = BreakerState.HALF_OPEN, BreakerState.FORCED_OPEN
MINUTE = timedelta(minutes=1)


def fill(builder: Builder) -> None:
    """Set the breakers that are open now, and write the week's transitions."""
    found = {one.lane_id: one for one in _all(builder)}
    of = {name: found[lane.pk] for name, lane in builder.lanes.items()}
    _broken_proxy(builder, [of[fixtures.ORDERS.slug, tenant] for tenant in fixtures.ORDERS.tenants])
    _down(builder, of[fixtures.LEADS.slug, fixtures.GLOBEX])
    _unpublished(builder, of[fixtures.CONTACTS.slug, fixtures.UMBRA])
    _held(builder, of[fixtures.PAYOUTS.slug, fixtures.GLOBEX])
    changes: Any = builder.rows[BreakerTransition]
    changes.sort(key=lambda one: one.at)


def _all(builder: Builder) -> list[Breaker]:
    rows: Any = builder.rows[Breaker]
    return list(rows)


def _broken_proxy(builder: Builder, breakers: list[Breaker]) -> None:
    for seconds, breaker in enumerate(breakers):
        opened = builder.now - week.BROKEN_PROXY[0] + (2 + seconds) * MINUTE
        reason = "http_500: The shop's API answered: Bad Gateway"
        _change(builder, breaker, CLOSED, OPEN, opened, reason)
        _change(builder, breaker, OPEN, HALF, opened + 5 * MINUTE, reason)
        _change(builder, breaker, HALF, OPEN, opened + 5 * MINUTE + timedelta(seconds=1), reason)
        closed = builder.now - week.BROKEN_PROXY[1] + MINUTE
        if breaker is breakers[0]:
            _change(builder, breaker, OPEN, CLOSED, closed, "the proxy is back", fixtures.OPERATOR)
            builder.note(
                actor=fixtures.OPERATOR, action="reset_breaker", at=closed, target=breaker, reason="the proxy is back"
            )
            continue
        _change(builder, breaker, OPEN, HALF, closed, reason)
        _change(builder, breaker, HALF, CLOSED, closed + timedelta(seconds=1), "recovered")


def _down(builder: Builder, breaker: Breaker) -> None:
    opened, reason = builder.now - week.DOWN_SINCE, "http_500: The enrichment service is down"
    breaker.state, breaker.reason, breaker.opened_at, breaker.openings = OPEN, reason, opened, 1
    breaker.next_probe_at = builder.now + 2 * MINUTE
    breaker.buckets = [[(opened - timedelta(seconds=s) - EPOCH) // MILLISECOND, 2, 0] for s in range(50, 0, -10)]
    _change(builder, breaker, CLOSED, OPEN, opened, reason)


def _unpublished(builder: Builder, breaker: Breaker) -> None:
    """Each probe fails: the workflow is still not published."""
    at, openings, reason = builder.now - week.UNPUBLISHED_SINCE, 1, "http_404_not_registered: The requested webhook"
    _change(builder, breaker, CLOSED, OPEN, at, reason)
    while at + 20 * MINUTE < builder.now:
        at += 20 * MINUTE
        openings += 1
        _change(builder, breaker, OPEN, HALF, at, reason)
        _change(builder, breaker, HALF, OPEN, at + timedelta(seconds=1), reason)
    breaker.state, breaker.reason, breaker.opened_at, breaker.openings = (
        OPEN,
        fixtures.NOT_REGISTERED.message,
        at,
        openings,
    )
    breaker.reason = f"{fixtures.NOT_REGISTERED.code}: {breaker.reason}"
    breaker.next_probe_at = at + 20 * MINUTE


def _held(builder: Builder, breaker: Breaker) -> None:
    at, reason = builder.now - week.HELD_SINCE, "Maintenance at the bank until noon"
    breaker.state, breaker.reason, breaker.opened_at = FORCED, reason, at
    breaker.forced_until = builder.now + 40 * MINUTE
    _change(builder, breaker, CLOSED, FORCED, at, reason, fixtures.LEAD)
    builder.note(actor=fixtures.LEAD, action="force_open_breaker", at=at, target=breaker, reason=reason)


def _change(  # the columns of one row
    builder: Builder, breaker: Breaker, before: str, after: str, at: datetime, reason: str, actor: str = "backstop"
) -> None:
    change = {"from_state": before, "to_state": after, "reason": reason, "actor": actor, "at": at}
    builder.add(BreakerTransition(breaker=breaker, **change))
