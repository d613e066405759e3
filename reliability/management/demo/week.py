"""The week's deliveries: the usual traffic, and the incidents."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from reliability.models import Breaker, Delivery, DeliveryState, Lane, Scope, Workflow

from . import fixtures
from .builder import Builder, DeliverySpec
from .fixtures import FailureMode, WorkflowSpec

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
# Incidents as (start, end) before now: a slow restart of n8n, and a broken proxy of the shop.
RESTART = (timedelta(days=2, hours=3), timedelta(days=2, hours=2, minutes=20))
BROKEN_PROXY = (timedelta(days=3, hours=5), timedelta(days=3, hours=4, minutes=35))
# Ongoing incidents, as their start before now: enrichment is down; the CRM workflow is not published; the breaker of
# payouts is forced open; exports are paused.
DOWN_SINCE, UNPUBLISHED_SINCE, HELD_SINCE, PAUSED_SINCE = 14 * MINUTE, 3 * HOUR, 50 * MINUTE, 5 * HOUR
BEHIND_BREAKER = 31


def open_lanes(builder: Builder) -> None:
    """Create the workflows, their lanes, and closed breakers."""
    for spec in fixtures.WORKFLOWS:
        workflow = Workflow(
            id=builder.rng.id(builder.start), slug=spec.slug, name=spec.name, path=spec.slug, **spec.policy
        )
        builder.workflows[spec.slug] = workflow
    Workflow.objects.bulk_create(builder.workflows.values())
    lanes = [
        Lane(workflow=builder.workflows[spec.slug], tenant=one) for spec in fixtures.WORKFLOWS for one in spec.tenants
    ]
    for lane in Lane.objects.bulk_create(lanes):
        builder.lanes[lane.workflow.slug, lane.tenant] = lane
        builder.add(Breaker(id=builder.rng.id(builder.start), scope=Scope.LANE, lane=lane))
    lane = builder.lanes[fixtures.ORDERS.slug, fixtures.UMBRA]
    lane.concurrency_limit, lane.max_retries = 3, 6
    lane.save()


def fill(builder: Builder) -> None:
    """Write the deliveries of applications, finished and waiting."""
    for spec in fixtures.WORKFLOWS:
        for tenant in spec.tenants if spec.per_day else ():
            for at in builder.rng.arrivals(
                start=builder.start, end=builder.now, per_day=spec.per_day / len(spec.tenants)
            ):
                _arrive(builder, spec, tenant, at)
    _fail_at_the_proxy(builder)
    _wait_behind_the_breaker(builder)
    _schedule_and_expire(builder)
    _await_reports(builder)


def _arrive(builder: Builder, spec: WorkflowSpec, tenant: str, at: datetime) -> None:
    if _is_blocked(builder, spec, tenant, at):
        _add_delivery(builder, spec, tenant, at, is_waiting=True)
        return
    if _within(builder, at, RESTART):
        fails = [fixtures.REFUSED] * builder.rng.number(1, 2)
        back = builder.now - RESTART[1] + timedelta(seconds=builder.rng.number(2, 240))
        _late(builder, spec, tenant, at, fails, back)
        return
    if spec is fixtures.ORDERS and _within(builder, at, BROKEN_PROXY):
        _add_delivery(
            builder, spec, tenant, at, [fixtures.BAD_GATEWAY] * (spec.policy["max_retries"] + 1), is_dead=True
        )
        return
    _add_usual(builder, spec, tenant, at)


def _add_usual(builder: Builder, spec: WorkflowSpec, tenant: str, at: datetime) -> None:
    for failure, probability in spec.failures:
        if builder.rng.happens(probability):
            tries = 1 if failure.final else spec.policy.get("max_retries", 3) + 1
            _add_delivery(builder, spec, tenant, at, [failure] * tries, is_dead=True)
            return
    fails = [failure for failure, probability in spec.transient_failures if builder.rng.happens(probability)]
    cancelled = builder.rng.happens(0.0015)
    made = _add_delivery(builder, spec, tenant, at, () if cancelled else fails, is_waiting=cancelled)
    if cancelled:
        made.state, made.finished_at = DeliveryState.CANCELLED, min(at + MINUTE, builder.now)


def _late(
    builder: Builder, spec: WorkflowSpec, tenant: str, at: datetime, fails: list[FailureMode], back: datetime
) -> None:
    """Write a delivery that failed while n8n was down, and was delivered afterwards."""
    made = _add_delivery(builder, spec, tenant, at, fails, is_waiting=True)
    builder._succeed(made, spec, max(back, at + MINUTE))


def _is_blocked(builder: Builder, spec: WorkflowSpec, tenant: str, at: datetime) -> bool:
    age = builder.now - at
    return (
        (spec is fixtures.LEADS and tenant == fixtures.GLOBEX and age < DOWN_SINCE)
        or (spec is fixtures.CONTACTS and tenant == fixtures.UMBRA and age < UNPUBLISHED_SINCE)
        or (spec is fixtures.PAYOUTS and age < HELD_SINCE)
        or (spec is fixtures.EXPORT and age < PAUSED_SINCE)
    )


def _within(builder: Builder, at: datetime, span: tuple[timedelta, timedelta]) -> bool:
    return span[1] <= builder.now - at <= span[0]


def _add_delivery(
    builder: Builder,
    spec: WorkflowSpec,
    tenant: str,
    at: datetime,
    fails: Sequence[FailureMode] = (),
    *,
    is_dead: bool = False,
    is_waiting: bool = False,
) -> Delivery:
    number = builder.next_number()
    payload = spec.payload(builder.rng, number)
    planned = DeliverySpec(
        spec, tenant, at, payload, f"{spec.key}-{number}", fails, is_dead=is_dead, is_waiting=is_waiting
    )
    return builder.deliver(planned)


def _fail_at_the_proxy(builder: Builder) -> None:
    """Write extra orders that arrived while the proxy was broken."""
    for _ in range(44):
        at = builder.now - BROKEN_PROXY[0] + timedelta(seconds=builder.rng.number(30, 1_400))
        _arrive(builder, fixtures.ORDERS, builder.rng.one_of(fixtures.TENANTS), at)


def _wait_behind_the_breaker(builder: Builder) -> None:
    """Write the failures that opened the breaker of lead enrichment, and the deliveries that wait behind it."""
    opened = builder.now - DOWN_SINCE
    for seconds in (45, 38, 30):
        _add_delivery(
            builder,
            fixtures.LEADS,
            fixtures.GLOBEX,
            opened - timedelta(seconds=seconds),
            [fixtures.NOT_THERE] * 4,
            is_dead=True,
        )
    for _ in range(BEHIND_BREAKER):
        at = opened + timedelta(seconds=builder.rng.number(1, int(DOWN_SINCE.total_seconds()) - 5))
        _add_delivery(builder, fixtures.LEADS, fixtures.GLOBEX, at, is_waiting=True)
    tripped = builder.now - UNPUBLISHED_SINCE
    for at in _every(tripped, builder.now, 25 * MINUTE):
        _add_delivery(builder, fixtures.CONTACTS, fixtures.UMBRA, at, [fixtures.NOT_REGISTERED], is_waiting=True)


def _every(start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    while start < end:
        yield start
        start += step


def _schedule_and_expire(builder: Builder) -> None:
    """Write deliveries with a later `deliver_at`, and some that expired while n8n was down."""
    for hours in (1, 3, 9, 20):
        made = _add_delivery(builder, fixtures.ORDERS, fixtures.GLOBEX, builder.now - hours * MINUTE, is_waiting=True)
        made.due_at = builder.now + hours * HOUR
    for seconds in range(0, 360, 60):
        at = builder.now - RESTART[0] + timedelta(seconds=seconds)
        made = _add_delivery(builder, fixtures.LEADS, fixtures.ACME, at, is_waiting=True)
        made.expires_at = at + 10 * MINUTE
        made.last_error = "expired: The delivery expired before it was delivered."
        builder.create_dead_letter(made, code="expired", message=made.last_error.partition(": ")[2], at=made.expires_at)


def _await_reports(builder: Builder) -> None:
    """Write tickets up to the concurrency limit that await a callback, and others that wait for a slot."""
    for minutes in (21, 17, 9, 6, 4):
        made = _add_delivery(builder, fixtures.TICKETS, fixtures.UMBRA, builder.now - minutes * MINUTE)
        made.state, made.finished_at = DeliveryState.AWAITING_CALLBACK, None
        made.lease_until = made.created_at + HOUR
    for seconds in (170, 95, 20):
        _add_delivery(
            builder, fixtures.TICKETS, fixtures.UMBRA, builder.now - timedelta(seconds=seconds), is_waiting=True
        )
