"""The first page's data: right, of a tenant where asked, and in a handful of queries."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.delivery import control, rollups
from reliability.delivery.rollups import Tally
from reliability.lanes import breakers, opening
from reliability.models import (
    Attempt,
    Breaker,
    DeadLetter,
    DeathRollup,
    Delivery,
    Flag,
    Operation,
    StripeEndpoint,
    StripeRefusal,
    Workflow,
    error_fields,
)
from reliability.stats import overview
from reliability.stats.charts import Range
from reliability.stats.overview import take
from scheduling.models import CronJob

pytestmark = pytest.mark.django_db
ACTOR = Actor("user:olga", "test")
QUERIES = 8


@pytest.fixture
def now():
    return clock.now()


@pytest.fixture
def lane(workflow):
    return opening.open_lane(workflow_id=workflow().pk, tenant="default")


@pytest.fixture
def letter(lane):
    def make(message="No client 1", *, code="http_500", at=None, **values):
        now = at or clock.now()
        fields = {"lane": lane, "source": "api", "payload": "{}", "created_at": now, "died_at": now}
        kind = error_fields(code=code, message=message)
        return DeadLetter.objects.create(**{**fields, "expires_at": now, **kind, **values})

    return make


def texts(found):
    return [one.text for one in found.banner]


def alive(monkeypatch, count=1):
    monkeypatch.setattr(overview.queue, "workers_alive", lambda: count)


def test_where_nothing_ever_happened_nothing_is_wrong_but_the_missing_worker(now):
    found = take(now=now, range_=Range.DAY)
    assert [(one.level, one.text) for one in found.banner] == [
        ("danger", "No worker is alive: nothing is delivered."),
    ]
    cards = found.cards
    assert (cards.dead.count, cards.dead.oldest_at, cards.success, cards.backlog.count) == (0, None, None, 0)
    assert (cards.breakers, cards.paused, cards.cron, cards.operations) == ([], [], [], [])
    assert {one.is_empty for one in (found.series.deaths, found.series.outcomes, found.series.latency)} == {True}
    assert (found.groups, found.actions, found.last_delivered_at) == ([], [], None)


def test_dead_letters_are_grouped_and_the_oldest_is_told(letter, now, monkeypatch):
    alive(monkeypatch)
    old = letter(at=now - timedelta(hours=3))
    letter("No client 2")
    letter("Too slow", code="read_timeout")
    letter("No client 3", status="recovered")
    found = take(now=now, range_=Range.DAY)
    assert (found.cards.dead.count, found.cards.dead.oldest_at) == (3, old.died_at)
    one, two = found.groups
    assert (one.slug, one.reason, one.code, one.count, one.first_at) == ("echo", "http_5xx", "http_500", 2, old.died_at)
    assert (two.reason, two.message, two.count) == ("timeout", "Too slow", 1)
    assert [(one.key, one.label, sum(one.values)) for one in found.series.deaths.datasets] == [
        ("http_5xx", "HTTP 5xx", 2),
        ("timeout", "Timeout", 1),
    ]


@pytest.mark.parametrize("range_", Range)
def test_a_range_ends_with_the_step_that_is_under_way(lane, range_, monkeypatch):
    alive(monkeypatch)
    now = datetime(2026, 3, 4, 13, 37, 20, tzinfo=UTC)
    start = range_.start(now=now)
    for at, latency in ((start, 100), (now, 2000), (start - timedelta(seconds=1), 9)):
        rollups.count(
            lane_id=lane.pk, tally=Tally(delivered=3, dead=1, attempts=5, failures=2, latencies=[latency] * 3), now=at
        )
    found = take(now=now, range_=range_).series
    labels = found.latency.labels
    assert len(labels) == range_.steps
    assert labels[0] == start
    assert labels[-1] <= now < labels[-1] + range_.step
    assert (found.delivered, found.failed) == (6, 2)
    delivered, failed = (one.values for one in found.outcomes.datasets)
    assert (delivered[0], delivered[-1], sum(delivered), sum(failed)) == (3, 3, 6, 2)
    p50, p95 = (one.values for one in found.latency.datasets)
    assert (p50[0], p50[-1], p95[-1]) == (75, 1750, 2425)  # in the middle of 50 to 100, and of 1000 to 2500
    assert set(p50[1:-1]) <= {None}


def test_growth_is_told_against_the_range_before(lane, monkeypatch, now):
    alive(monkeypatch)
    hour = now.replace(minute=0, second=0, microsecond=0)
    before, within = hour - timedelta(hours=30), hour - timedelta(hours=2)
    for at, count in ((before, 10), (within, 20)):
        DeathRollup.objects.create(lane=lane, grain="hour", at=at, reason="timeout", count=count)
    found = take(now=now, range_=Range.DAY)
    assert (found.cards.dead.died, found.cards.dead.died_before) == (20, 10)
    assert not texts(found)
    DeathRollup.objects.filter(at=within).update(count=21)
    assert texts(take(now=now, range_=Range.DAY)) == [
        "The dead-letter queue grows: 21 died, after 10 in as long a time before."
    ]


def test_what_does_not_run_is_told(lane, now, accept, monkeypatch):
    alive(monkeypatch)
    accept()
    accept(tenant="acme")
    for one in Breaker.objects.filter(lane__tenant="default"):
        breakers.force_open(breaker_id=one.pk, actor=ACTOR, now=now)
    breakers.instance()
    Breaker.objects.filter(scope="instance").update(state="open", opened_at=now, reason="connection_refused: x")
    control.pause(workflow_id=Workflow.objects.get().pk, actor=ACTOR, now=now)
    Flag.objects.filter(name="dispatch").update(enabled=False)
    operation = Operation.objects.create(
        kind="replay", cutoff=now, matched=9, done=2, skipped=1, actor="a", created_at=now
    )
    found = take(now=now, range_=Range.HOUR)
    assert texts(found) == [
        "n8n cannot be reached: its breaker is open.",
        "Breaker open: echo/default.",
        "Switched off: dispatch.",
    ]
    cards = found.cards
    assert {(one.name, one.state) for one in cards.breakers} == {
        ("echo/default", "forced_open"),
        ("n8n instance", "open"),
    }
    assert [(one.workflow, one.reason) for one in cards.paused] == [("echo", "test")]
    assert [(one.id, one.kind, one.done, one.matched) for one in cards.operations] == [(operation.pk, "replay", 3, 9)]
    assert cards.backlog.count == 2
    assert cards.backlog.age(now=now + timedelta(hours=1)) >= timedelta(minutes=59)
    assert [one.action for one in found.actions] == ["pause", "force_open_breaker"]


def test_a_backlog_is_counted_to_a_cap(accept_many, workflow, now, monkeypatch):
    workflow()
    accept_many(5)
    monkeypatch.setattr(overview, "CAP", 3)
    backlog = take(now=now, range_=Range.HOUR).cards.backlog
    assert (backlog.count, backlog.is_capped) == (4, True)


def test_stripe_and_the_last_delivery(lane, accept, now):
    StripeEndpoint.objects.create(slug="shop")
    StripeRefusal.objects.create(slug="shop", at=now.replace(second=0), reason="signature", count=3)
    made = accept()
    rollups.count(lane_id=lane.pk, tally=Tally(delivered=1), now=now - timedelta(days=2))
    assert take(now=now, range_=Range.HOUR).last_delivered_at == (now - timedelta(days=2)).replace(
        second=0, microsecond=0
    )
    Attempt.objects.create(delivery=made, number=1, result="delivered", started_at=now, duration_ms=500)
    found = take(now=now, range_=Range.HOUR)
    assert found.last_delivered_at == now + timedelta(milliseconds=500)
    assert found.cards.stripe.refused == 3


def test_late_cron_jobs_are_named(workflow, now, monkeypatch):
    alive(monkeypatch)
    CronJob.objects.update(enabled=False)
    values = {"period_seconds": 60, "grace_seconds": 60, "payload": "{}"}
    late = CronJob.objects.create(slug="recap", **values)
    CronJob.objects.filter(pk=late.pk).update(active_since=now - timedelta(minutes=30))
    CronJob.objects.create(slug="fresh", **values)
    cron = take(now=now, range_=Range.HOUR).cards.cron
    assert [(one.job, one.tenant) for one in cron] == [("recap", "default")]
    assert cron[0].lateness > timedelta(minutes=20)


def test_a_tenant_sees_its_own(letter, workflow, accept, now):
    acme = opening.open_lane(workflow_id=Workflow.objects.get().pk, tenant="acme")
    letter()
    letter("No client 7", lane=acme)
    accept()
    rollups.count(lane_id=acme.pk, tally=Tally(delivered=1, latencies=[5]), now=now)
    found = take(now=now, range_=Range.HOUR, tenant="acme")
    assert (found.cards.dead.count, found.cards.backlog.count, found.cards.delivered) == (1, 0, 1)
    assert [(one.slug, one.count, one.message) for one in found.groups] == [("echo", 1, "No client 7")]
    assert take(now=now, range_=Range.HOUR, tenant="nobody").cards.dead.count == 0


def test_it_takes_a_handful_of_queries(letter, accept, now):
    for n in range(3):
        letter(f"{'abc'[n]}")
    accept()
    with CaptureQueriesContext(
        connection,
    ) as caught:
        take(now=now, range_=Range.WEEK)
    assert len(caught) <= QUERIES, [one["sql"] for one in caught]
    assert not Delivery.objects.filter(state="dead").exists()
