"""How the demo's breakers stand, and what they went through."""

from datetime import datetime, timedelta
from typing import Any

from reliability.models import Breaker, BreakerState, BreakerTransition
from reliability.policies.breaker import EPOCH, MILLISECOND

from . import fixtures, week
from .builder import Builder

CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN
HALF, FORCED = BreakerState.HALF_OPEN, BreakerState.FORCED_OPEN
MINUTE = timedelta(minutes=1)


def fill(book: Builder) -> None:
    """Open those that are open now, and write the week's transitions."""
    found = {one.lane_id: one for one in _all(book)}
    of = {name: found[lane.pk] for name, lane in book.lanes.items()}
    _broken_proxy(book, [of[fixtures.ORDERS.slug, tenant] for tenant in fixtures.ORDERS.tenants])
    _down(book, of[fixtures.LEADS.slug, fixtures.GLOBEX])
    _unpublished(book, of[fixtures.CONTACTS.slug, fixtures.UMBRA])
    _held(book, of[fixtures.PAYOUTS.slug, fixtures.GLOBEX])
    changes: Any = book.rows[BreakerTransition]
    changes.sort(key=lambda one: one.at)


def _all(book: Builder) -> list[Breaker]:
    rows: Any = book.rows[Breaker]
    return list(rows)


def _broken_proxy(book: Builder, breakers: list[Breaker]) -> None:
    for seconds, breaker in enumerate(breakers):
        opened = book.now - week.BROKEN_PROXY[0] + (2 + seconds) * MINUTE
        reason = "http_500: The shop's API answered: Bad Gateway"
        _change(book, breaker, CLOSED, OPEN, opened, reason)
        _change(book, breaker, OPEN, HALF, opened + 5 * MINUTE, reason)
        _change(book, breaker, HALF, OPEN, opened + 5 * MINUTE + timedelta(seconds=1), reason)
        closed = book.now - week.BROKEN_PROXY[1] + MINUTE
        if breaker is breakers[0]:
            _change(book, breaker, OPEN, CLOSED, closed, "the proxy is back", fixtures.OPERATOR)
            book.note(
                actor=fixtures.OPERATOR, action="reset_breaker", at=closed, target=breaker, reason="the proxy is back"
            )
            continue
        _change(book, breaker, OPEN, HALF, closed, reason)
        _change(book, breaker, HALF, CLOSED, closed + timedelta(seconds=1), "recovered")


def _down(book: Builder, breaker: Breaker) -> None:
    opened, reason = book.now - week.DOWN_SINCE, "http_500: The enrichment service is down"
    breaker.state, breaker.reason, breaker.opened_at, breaker.openings = OPEN, reason, opened, 1
    breaker.next_probe_at = book.now + 2 * MINUTE
    breaker.buckets = [[(opened - timedelta(seconds=s) - EPOCH) // MILLISECOND, 2, 0] for s in range(50, 0, -10)]
    _change(book, breaker, CLOSED, OPEN, opened, reason)


def _unpublished(book: Builder, breaker: Breaker) -> None:
    """Each probe finds the workflow still not published."""
    at, openings, reason = book.now - week.UNPUBLISHED_SINCE, 1, "http_404_not_registered: The requested webhook"
    _change(book, breaker, CLOSED, OPEN, at, reason)
    while at + 20 * MINUTE < book.now:
        at += 20 * MINUTE
        openings += 1
        _change(book, breaker, OPEN, HALF, at, reason)
        _change(book, breaker, HALF, OPEN, at + timedelta(seconds=1), reason)
    breaker.state, breaker.reason, breaker.opened_at, breaker.openings = (
        OPEN,
        fixtures.NOT_REGISTERED.message,
        at,
        openings,
    )
    breaker.reason = f"{fixtures.NOT_REGISTERED.code}: {breaker.reason}"
    breaker.next_probe_at = at + 20 * MINUTE


def _held(book: Builder, breaker: Breaker) -> None:
    at, reason = book.now - week.HELD_SINCE, "The bank maintains its interface until noon"
    breaker.state, breaker.reason, breaker.opened_at = FORCED, reason, at
    breaker.forced_until = book.now + 40 * MINUTE
    _change(book, breaker, CLOSED, FORCED, at, reason, fixtures.LEAD)
    book.note(actor=fixtures.LEAD, action="force_open_breaker", at=at, target=breaker, reason=reason)


def _change(  # the columns of one row
    book: Builder, breaker: Breaker, before: str, after: str, at: datetime, reason: str, actor: str = "backstop"
) -> None:
    change = {"from_state": before, "to_state": after, "reason": reason, "actor": actor, "at": at}
    book.add(BreakerTransition(breaker=breaker, **change))
