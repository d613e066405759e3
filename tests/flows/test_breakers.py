"""The guard at its two levels, through a real dispatcher."""

from datetime import timedelta

import pytest

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.lanes import breakers
from reliability.models import Breaker, BreakerTransition, Delivery, Scope

from ..support.receiver import Reply, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def quick(settings):
    settings.N8N_CIRCUIT_BREAKER_THRESHOLD = 3
    settings.N8N_CIRCUIT_BREAKER_RECOVERY_MS = 400


def open_since_long(breaker: Breaker) -> None:
    """Bring a breaker to the moment of its first probe."""
    past = clock.now() - timedelta(seconds=1)
    Breaker.objects.filter(pk=breaker.pk).update(next_probe_at=past, opened_at=past)


def test_failures_open_the_lane_and_the_backlog_waits_without_spending_attempts(
    workflow, receiver, drain, accept_many, lane_breaker, quick
):
    workflow(concurrency_limit=1, max_retries=10)
    receiver.always(500)
    accept_many(10)
    drain()
    assert lane_breaker().state == "open"
    assert len(receiver.got) == 3
    drain()
    drain()
    assert len(receiver.got) == 3
    assert Delivery.objects.filter(state="pending").count() == 10
    assert Delivery.objects.filter(attempt_count=0).count() >= 7
    assert not Breaker.objects.filter(scope=Scope.INSTANCE).exclude(state="closed").exists()


def test_half_open_lets_one_probe_through_and_a_good_one_closes(
    workflow, receiver, drain, accept_many, lane_breaker, quick
):
    workflow(concurrency_limit=8, max_retries=10)
    receiver.always(500)
    accept_many(20)
    drain()
    seen = len(receiver.got)
    open_since_long(lane_breaker())
    receiver.peak.clear()
    drain()
    assert len(receiver.got) == seen + 1
    breaker = lane_breaker()
    assert (breaker.state, breaker.openings) == ("open", 2)
    assert breaker.next_probe_at - breaker.opened_at == timedelta(milliseconds=800)

    receiver.always(200)
    open_since_long(breaker)
    until(lambda: drain() or Delivery.objects.filter(state="delivered").count() == 20)
    assert lane_breaker().state == "closed"
    changes = BreakerTransition.objects.order_by("id").values_list("from_state", "to_state")
    assert list(changes) == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


def test_the_backlog_ramps_up_behind_a_breaker_that_closes(workflow, receiver, drain, accept_many, lane_breaker):
    workflow(concurrency_limit=8)
    receiver.always(200, wait=0.05)
    accept_many(24)
    breaker = lane_breaker()
    breakers.force_open(breaker_id=breaker.pk, actor=Actor("test"), now=clock.now())
    drain()
    assert receiver.got == []
    breakers.reset(breaker_id=breaker.pk, actor=Actor("test"), now=clock.now())
    drain()
    assert Delivery.objects.filter(state="delivered").count() == 24
    starts = sorted(one.at for one in receiver.got)
    assert starts[1] - starts[0] > 0.04  # the first one alone
    assert starts[3] - starts[1] > 0.04  # then two


def test_an_absent_n8n_is_the_instances_fault_and_costs_no_delivery_its_retries(
    workflow, receiver, drain, accept_many, lane_breaker, quick
):
    workflow("one", max_retries=0)
    workflow("two", max_retries=0)
    receiver.stop()
    accept_many(5, workflow="one")
    accept_many(5, workflow="two")
    drain()
    instance = Breaker.objects.get(scope=Scope.INSTANCE)
    assert instance.state == "open"
    assert instance.reason.startswith("connection_refused")
    assert lane_breaker("one").buckets == []
    assert lane_breaker("two").buckets == []
    assert Delivery.objects.filter(state="pending").count() == 10
    assert Delivery.objects.filter(retries_used__gt=0).count() == 0
    tried = Delivery.objects.filter(attempt_count__gt=0).count()
    drain()
    assert Delivery.objects.filter(attempt_count__gt=0).count() == tried  # an open one lets nothing through

    receiver.start()
    open_since_long(instance)
    until(lambda: drain() or Delivery.objects.filter(state="delivered").count() == 10)
    assert Breaker.objects.get(scope=Scope.INSTANCE).state == "closed"


def test_starting_up_is_not_a_success(workflow, receiver, drain, accept):
    workflow()
    receiver.always(200, "n8n is starting up. Please wait")
    made = accept()
    drain()
    made.refresh_from_db()
    assert (made.state, made.retries_used) == ("pending", 0)
    assert made.attempts.first().code == "n8n_starting"


def test_an_unpublished_workflow_opens_its_lane_at_once_and_buries_nothing(
    workflow, receiver, drain, accept_many, lane_breaker
):
    workflow(concurrency_limit=1, max_retries=0)
    workflow("other")
    message = '{"code":404,"message":"The requested webhook \\"POST echo\\" is not registered."}'
    receiver.rule = lambda got: Reply(404, message) if got.path.endswith("echo") else Reply()
    accept_many(10)
    accept_many(2, workflow="other")
    drain()
    assert lane_breaker().state == "open"
    assert "not registered" in lane_breaker().reason
    assert [one.path for one in receiver.got].count("/webhook/echo") == 1
    assert Delivery.objects.filter(state="dead").count() == 0
    assert Delivery.objects.filter(lane__workflow__slug="other", state="delivered").count() == 2


def test_one_tenants_failures_do_not_stop_another(workflow, receiver, drain, accept_many, lane_breaker, quick):
    workflow(concurrency_limit=1, max_retries=10)
    receiver.rule = lambda got: Reply(500 if got.headers["x-backstop-tenant"] == "bad" else 200)
    accept_many(6, tenant="bad")
    accept_many(6, tenant="good")
    drain()
    assert lane_breaker(tenant="bad").state == "open"
    assert Delivery.objects.filter(lane__tenant="good", state="delivered").count() == 6


def test_forced_open_ends_by_itself_with_a_probe(workflow, receiver, drain, accept_many, lane_breaker):
    workflow()
    accept_many(3)
    until_then = clock.now() + timedelta(seconds=1)
    breakers.force_open(breaker_id=lane_breaker().pk, actor=Actor("ops", "upgrade"), now=clock.now(), until=until_then)
    drain()
    assert receiver.got == []
    until(lambda: drain() or Delivery.objects.filter(state="delivered").count() == 3)
    assert lane_breaker().state == "closed"
    assert receiver.got[0].at >= until_then.timestamp() - 0.05


def test_a_minimum_failure_rate_keeps_a_busy_lane_open_for_business(
    workflow, receiver, drain, accept_many, lane_breaker
):
    workflow(concurrency_limit=1, max_retries=0, circuit_breaker_threshold=3, minimum_failure_rate=0.5)
    receiver.rule = lambda got: Reply(500 if got.json["n"] % 4 == 3 else 200)
    accept_many(24)
    drain()
    assert len(receiver.got) == 24
    assert lane_breaker().state == "closed"
