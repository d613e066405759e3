"""What deliveries wait for: each cause told, in the order in which the dispatcher asks, and as it decides."""

from datetime import timedelta

import pytest

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.delivery import control
from reliability.lanes import admission, breakers, flags, lane_lock, lane_snapshot, wait_reasons
from reliability.lanes.wait_reasons import Cause
from reliability.models import Breaker, Delivery, DeliveryState, Lane, Slot, Workflow

pytestmark = pytest.mark.django_db
ACTOR = Actor("user:ada", "because")
HOUR = timedelta(hours=1)


@pytest.fixture
def delivery(workflow, accept) -> Delivery:
    workflow(concurrency_limit=2)
    return accept()


def pause(one: Delivery, **values) -> None:
    control.pause(workflow_id=one.lane.workflow_id, actor=ACTOR, now=clock.now(), **values)


def hold_open(breaker: Breaker, **values) -> None:
    breakers.force_open(breaker_id=breaker.pk, actor=ACTOR, now=clock.now(), **values)


def fill(one: Delivery, *, count: int) -> None:
    until = clock.now() + HOUR
    Slot.objects.bulk_create([Slot(lane_id=one.lane_id, taken_at=clock.now(), expires_at=until) for _ in range(count)])


def use_up_the_rate(one: Delivery) -> None:
    Workflow.objects.update(rate_limit_per_minute=1)
    Lane.objects.update(rate_tat=clock.now() + timedelta(seconds=50))


CASES = {
    Cause.TURN: lambda one: None,
    Cause.HELD: lambda one: Delivery.objects.filter(pk=one.pk).update(waits_for=one.pk),
    Cause.DUE: lambda one: Delivery.objects.filter(pk=one.pk).update(due_at=clock.now() + HOUR),
    Cause.SWITCHED_OFF: lambda one: flags.switch_off(name="dispatch", actor=ACTOR, now=clock.now()),
    Cause.PAUSED: pause,
    Cause.BREAKER: lambda one: hold_open(Breaker.objects.get(lane=one.lane_id)),
    Cause.LIMIT: lambda one: fill(one, count=2),
    Cause.INSTANCE: lambda one: hold_open(breakers.instance()),
    Cause.RATE: use_up_the_rate,
}


def look(one: Delivery) -> wait_reasons.Wait:
    row = Delivery.objects.select_related("lane__workflow", "lane__breaker").get(pk=one.pk)
    return wait_reasons.of(deliveries=[row], now=clock.now())[one.pk]


def may_go(one: Delivery) -> bool:
    """Whether the dispatcher would let one of the lane's due deliveries go."""
    lane = lane_lock.lock(lane_id=one.lane_id)
    seen = lane_snapshot.take_snapshot(lane_id=one.lane_id)
    room = admission.admit(lane=lane, policy=lane.policy, snapshot=seen, capacity=1).available
    return bool(room) and seen.first_due is not None and seen.first_due <= seen.now


@pytest.mark.parametrize("cause", CASES)
def test_each_cause_is_told_and_is_the_dispatchers_own(delivery, cause):
    CASES[cause](delivery)
    found = look(delivery)
    assert found.cause is cause
    assert may_go(delivery) is (cause is Cause.TURN)


def test_a_pause_and_a_breaker_say_whose_reason_and_until_when(delivery):
    end = clock.now() + HOUR
    hold_open(Breaker.objects.get(lane=delivery.lane_id), until=end)
    found = look(delivery)
    assert (found.detail, found.until, found.on) == ("because", end, delivery.lane.breaker.pk)
    pause(delivery, until=end)
    found = look(delivery)
    assert (found.cause, found.detail, found.until) == (Cause.PAUSED, "because", end)


def test_a_pause_that_is_over_holds_nothing(delivery):
    Workflow.objects.update(paused=True, paused_until=clock.now() - HOUR)
    assert look(delivery).cause is Cause.TURN


def test_the_slow_start_after_a_reset_narrows_the_limit(delivery):
    breaker = Breaker.objects.get(lane=delivery.lane_id)
    hold_open(breaker)
    breakers.reset(breaker_id=breaker.pk, actor=ACTOR, now=clock.now())
    assert look(delivery).cause is Cause.TURN
    fill(delivery, count=1)
    found = look(delivery)
    assert (found.cause, found.count, found.limit) == (Cause.LIMIT, 1, 1)


def test_slots_that_are_over_hold_nothing(delivery):
    fill(delivery, count=2)
    Slot.objects.update(expires_at=clock.now() - HOUR)
    assert look(delivery).cause is Cause.TURN


def test_only_what_is_pending_waits(delivery, django_assert_num_queries):
    Delivery.objects.update(state=DeliveryState.DELIVERED)
    row = Delivery.objects.get(pk=delivery.pk)
    with django_assert_num_queries(0):
        assert wait_reasons.of(deliveries=[row], now=row.created_at) == {}


def test_many_take_as_few_queries_as_one(workflow, accept_many, accept, django_assert_max_num_queries):
    workflow()
    workflow("other")
    accept_many(20)
    accept(workflow="other", tenant="acme")
    rows = list(Delivery.objects.select_related("lane__workflow", "lane__breaker"))
    breakers.instance()
    now = clock.now()
    with django_assert_max_num_queries(3):
        assert len(wait_reasons.of(deliveries=rows, now=now)) == 21
