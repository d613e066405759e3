"""The week: what arrives, what fails, and the three times when more than usual did."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from reliability.models import Breaker, Delivery, DeliveryState, Lane, Scope, Workflow

from . import fixtures
from .builder import Builder, Wish
from .fixtures import Role, Trouble

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
# Two days ago n8n was restarted, and took its time; three days ago the shop's proxy was broken.
RESTART = (timedelta(days=2, hours=3), timedelta(days=2, hours=2, minutes=20))
BROKEN_PROXY = (timedelta(days=3, hours=5), timedelta(days=3, hours=4, minutes=35))
# Since then, before now: enrichment is down; the CRM's workflow is not published; the bank asked for a pause.
DOWN_SINCE, UNPUBLISHED_SINCE, HELD_SINCE, PAUSED_SINCE = 14 * MINUTE, 3 * HOUR, 50 * MINUTE, 5 * HOUR
BEHIND_BREAKER = 31


def open_lanes(book: Builder) -> None:
    """Make the workflows, their lanes, and breakers that have seen nothing yet."""
    for role in fixtures.ROLES:
        workflow = Workflow(id=book.dice.id(book.start), slug=role.slug, name=role.name, path=role.slug, **role.policy)
        book.workflows[role.slug] = workflow
    Workflow.objects.bulk_create(book.workflows.values())
    lanes = [Lane(workflow=book.workflows[role.slug], tenant=one) for role in fixtures.ROLES for one in role.tenants]
    for lane in Lane.objects.bulk_create(lanes):
        book.lanes[lane.workflow.slug, lane.tenant] = lane
        book.add(Breaker(id=book.dice.id(book.start), scope=Scope.LANE, lane=lane))
    lane = book.lanes[fixtures.ORDERS.slug, fixtures.UMBRA]
    lane.concurrency_limit, lane.max_retries = 3, 6
    lane.save()


def fill(book: Builder) -> None:
    """Write what applications triggered, and what waits now."""
    for role in fixtures.ROLES:
        for tenant in role.tenants if role.per_day else ():
            for at in book.dice.arrivals(start=book.start, end=book.now, per_day=role.per_day / len(role.tenants)):
                _arrive(book, role, tenant, at)
    _lose_to_the_proxy(book)
    _wait_behind_the_breaker(book)
    _wait_for_their_time(book)
    _await_reports(book)


def _arrive(book: Builder, role: Role, tenant: str, at: datetime) -> None:
    if _is_blocked(book, role, tenant, at):
        _wish(book, role, tenant, at, waits=True)
        return
    if _within(book, at, RESTART):
        fails = [fixtures.REFUSED] * book.dice.number(1, 2)
        back = book.now - RESTART[1] + timedelta(seconds=book.dice.number(2, 240))
        _late(book, role, tenant, at, fails, back)
        return
    if role is fixtures.ORDERS and _within(book, at, BROKEN_PROXY):
        _wish(book, role, tenant, at, [fixtures.BAD_GATEWAY] * (role.policy["max_retries"] + 1), dies=True)
        return
    _usual(book, role, tenant, at)


def _usual(book: Builder, role: Role, tenant: str, at: datetime) -> None:
    for trouble, probability in role.troubles:
        if book.dice.happens(probability):
            tries = 1 if trouble.final else role.policy.get("max_retries", 3) + 1
            _wish(book, role, tenant, at, [trouble] * tries, dies=True)
            return
    fails = [trouble for trouble, probability in role.shaky if book.dice.happens(probability)]
    cancelled = book.dice.happens(0.0015)
    made = _wish(book, role, tenant, at, () if cancelled else fails, waits=cancelled)
    if cancelled:
        made.state, made.finished_at = DeliveryState.CANCELLED, min(at + MINUTE, book.now)


def _late(book: Builder, role: Role, tenant: str, at: datetime, fails: list[Trouble], back: datetime) -> None:
    """Write one that failed while n8n was away, and went through when it was back."""
    made = _wish(book, role, tenant, at, fails, waits=True)
    book._succeed(made, role, max(back, at + MINUTE))


def _is_blocked(book: Builder, role: Role, tenant: str, at: datetime) -> bool:
    age = book.now - at
    return (
        (role is fixtures.LEADS and tenant == fixtures.GLOBEX and age < DOWN_SINCE)
        or (role is fixtures.CONTACTS and tenant == fixtures.UMBRA and age < UNPUBLISHED_SINCE)
        or (role is fixtures.PAYOUTS and age < HELD_SINCE)
        or (role is fixtures.EXPORT and age < PAUSED_SINCE)
    )


def _within(book: Builder, at: datetime, span: tuple[timedelta, timedelta]) -> bool:
    return span[1] <= book.now - at <= span[0]


def _wish(
    book: Builder,
    role: Role,
    tenant: str,
    at: datetime,
    fails: Sequence[Trouble] = (),
    *,
    dies: bool = False,
    waits: bool = False,
) -> Delivery:
    number = book.next_number()
    payload = role.payload(book.dice, number)
    wish = Wish(role, tenant, at, payload, f"{role.key}-{number}", fails, dies=dies, waits=waits)
    return book.deliver(wish)


def _lose_to_the_proxy(book: Builder) -> None:
    """A campaign's orders came just when the proxy was broken."""
    for _ in range(44):
        at = book.now - BROKEN_PROXY[0] + timedelta(seconds=book.dice.number(30, 1_400))
        _arrive(book, fixtures.ORDERS, book.dice.one_of(fixtures.TENANTS), at)


def _wait_behind_the_breaker(book: Builder) -> None:
    """Ten failures opened the breaker of lead enrichment; some died of it, and the rest wait."""
    opened = book.now - DOWN_SINCE
    for seconds in (45, 38, 30):
        _wish(
            book,
            fixtures.LEADS,
            fixtures.GLOBEX,
            opened - timedelta(seconds=seconds),
            [fixtures.NOT_THERE] * 4,
            dies=True,
        )
    for _ in range(BEHIND_BREAKER):
        at = opened + timedelta(seconds=book.dice.number(1, int(DOWN_SINCE.total_seconds()) - 5))
        _wish(book, fixtures.LEADS, fixtures.GLOBEX, at, waits=True)
    tripped = book.now - UNPUBLISHED_SINCE
    for at in _every(tripped, book.now, 25 * MINUTE):
        _wish(book, fixtures.CONTACTS, fixtures.UMBRA, at, [fixtures.NOT_REGISTERED], waits=True)


def _every(start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    while start < end:
        yield start
        start += step


def _wait_for_their_time(book: Builder) -> None:
    """Some were asked for a time to come; some outlived their expiry while n8n was away."""
    for hours in (1, 3, 9, 20):
        made = _wish(book, fixtures.ORDERS, fixtures.GLOBEX, book.now - hours * MINUTE, waits=True)
        made.due_at = book.now + hours * HOUR
    for seconds in range(0, 360, 60):
        at = book.now - RESTART[0] + timedelta(seconds=seconds)
        made = _wish(book, fixtures.LEADS, fixtures.ACME, at, waits=True)
        made.expires_at = at + 10 * MINUTE
        made.last_error = "expired: The delivery expired before it could be sent."
        book.bury(made, code="expired", message=made.last_error.partition(": ")[2], at=made.expires_at)


def _await_reports(book: Builder) -> None:
    """As many tickets as the limit allows are with n8n, which will report their end; others wait for a place."""
    for minutes in (21, 17, 9, 6, 4):
        made = _wish(book, fixtures.TICKETS, fixtures.UMBRA, book.now - minutes * MINUTE)
        made.state, made.finished_at = DeliveryState.AWAITING_CALLBACK, None
        made.lease_until = made.created_at + HOUR
    for seconds in (170, 95, 20):
        _wish(book, fixtures.TICKETS, fixtures.UMBRA, book.now - timedelta(seconds=seconds), waits=True)
