"""What alerts are about, read from the database: each condition wrong, and right."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reliability.alerts import readings as alert_readings
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.lanes import breakers
from reliability.management import demo
from reliability.models import (
    BreakerTransition,
    DeathRollup,
    Delivery,
    FailureGroup,
    Lane,
    Rollup,
    Slot,
    StripeRefusal,
)
from reliability.policies.alert_rules import BY_NAME, NAMES, RULES
from reliability.stats.process_stats import ProcessUsage
from scheduling.models import CronJob, Ping

pytestmark = pytest.mark.django_db
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ACTOR = Actor("user:ada", "a move")


def wrong(now=None) -> dict[str, str]:
    """What is wrong now, by name, with whose it is."""
    found = alert_readings.take(now=now or clock.now())
    return {
        one.name: one.target for one in found if BY_NAME[one.name].is_beyond_limit(value=one.value, limit=one.limit)
    }


@pytest.fixture
def alive(db):
    """A worker that lives, so that no test has to say that there is none."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())")


@pytest.fixture
def lane(workflow, accept, alive) -> Lane:
    CronJob.objects.update(enabled=False)
    workflow(paused=True)
    delivery = accept()
    Delivery.objects.filter(pk=delivery.pk).update(state="cancelled")
    return Lane.objects.get()


def open_breaker(lane, *, ago: timedelta, state="open", reason="http_503: secret words") -> None:
    breaker, at = lane.breaker, clock.now() - ago
    breaker.state, breaker.reason, breaker.opened_at = state, reason, at + ago / 2
    breaker.save()
    BreakerTransition.objects.create(breaker=breaker, from_state="closed", to_state="open", at=at)
    BreakerTransition.objects.create(breaker=breaker, from_state="half_open", to_state="open", at=at + ago / 2)


def test_nothing_is_wrong_with_nothing(lane):
    assert wrong() == {}


def test_an_open_breaker_is_told_by_its_code_alone(lane):
    open_breaker(lane, ago=10 * MINUTE)
    assert wrong() == {"BreakerOpen": "echo/default"}
    (one,) = [one for one in alert_readings.take(now=clock.now()) if one.name == "BreakerOpen"]
    assert one.detail == "http_503"
    assert 590 < one.value < 610  # since it was closed last, not since the last probe failed
    assert abs((clock.now() - one.since).total_seconds() - 600) < 10


def test_a_breaker_open_for_long_is_told_by_whoever_opened_it(lane):
    open_breaker(lane, ago=61 * MINUTE)
    assert wrong() == {"BreakerOpen": "echo/default", "BreakerOpenLong": "echo/default"}
    breakers.reset(breaker_id=lane.breaker.pk, actor=ACTOR, now=clock.now())
    assert wrong() == {}
    breakers.force_open(breaker_id=lane.breaker.pk, actor=ACTOR, now=clock.now())
    assert wrong() == {}
    assert wrong(clock.now() + 61 * MINUTE) == {"BreakerOpenLong": "echo/default"}


def test_n8ns_own_breaker_has_a_name(lane):
    breakers.force_open(breaker_id=breakers.instance().pk, actor=ACTOR, now=clock.now())
    assert wrong(clock.now() + 2 * HOUR) == {"BreakerOpenLong": "n8n instance"}


@pytest.mark.parametrize(("closings", "ago", "flaps"), [(2, MINUTE, False), (3, MINUTE, True), (3, 2 * HOUR, False)])
def test_flapping_is_closing_again_and_again(lane, closings, ago, flaps):
    for _ in range(closings):
        values = {"breaker": lane.breaker, "at": clock.now() - ago}
        BreakerTransition.objects.create(from_state="half_open", to_state="closed", **values)
    assert wrong() == ({"BreakerFlapping": "echo"} if flaps else {})


@pytest.mark.parametrize(("dead", "many"), [(100, False), (101, True)])
def test_dead_letters_are_summed_from_their_groups(lane, dead, many):
    for place, count in enumerate((60, dead - 60)):
        FailureGroup.objects.create(
            workflow=lane.workflow,
            fingerprint=str(place),
            reason="x",
            dead=count,
            first_at=clock.now(),
            last_at=clock.now(),
        )
    assert wrong() == ({"DeadLettersMany": "echo"} if many else {})


@pytest.mark.parametrize(("count", "ago", "grows"), [(20, MINUTE, False), (21, MINUTE, True), (21, 20 * MINUTE, False)])
def test_growth_is_what_died_lately(lane, count, ago, grows):
    at = (clock.now() - ago).replace(second=0, microsecond=0)
    DeathRollup.objects.create(lane=lane, grain="minute", at=at, reason="rejected", count=count)
    DeathRollup.objects.create(lane=lane, grain="hour", at=at.replace(minute=0), reason="rejected", count=1000)
    assert wrong() == ({"DeadLettersGrowing": "echo"} if grows else {})


@pytest.mark.parametrize(("ago", "old"), [(9 * MINUTE, False), (11 * MINUTE, True), (-HOUR, False)])
def test_the_oldest_that_is_due_is_too_old(lane, accept, ago, old):
    made = accept({"n": 2})
    Delivery.objects.filter(pk=made.pk).update(due_at=clock.now() - ago)
    accept({"n": 3})
    assert wrong() == ({"BacklogOld": "echo"} if old else {})


@pytest.mark.parametrize(
    ("delivered", "dead", "low"),
    [(9, 1, False), (89, 11, True), (90, 10, False), (0, 9, False), (0, 10, True), (0, 0, False)],
)
def test_a_low_share_of_enough(lane, delivered, dead, low):
    at = clock.now().replace(second=0, microsecond=0)
    Rollup.objects.create(lane=lane, grain="minute", at=at, delivered=delivered, dead=dead)
    Rollup.objects.create(lane=lane, grain="minute", at=at - HOUR, delivered=0, dead=500)
    assert wrong() == ({"SuccessRateLow": "echo"} if low else {})


@pytest.mark.parametrize(("limit", "full"), [(3, False), (2, True)])
def test_a_lane_at_its_limit(lane, accept, limit, full):
    lane.workflow.concurrency_limit = limit
    lane.workflow.save()
    made, now = accept({"n": 2}), clock.now()
    Delivery.objects.filter(pk=made.pk).update(state="awaiting_callback", lease_until=now + HOUR)
    Slot.objects.create(lane=lane, taken_at=now, expires_at=now + HOUR)
    Slot.objects.create(lane=lane, taken_at=now - HOUR, expires_at=now - MINUTE)
    assert wrong() == ({"SlotsExhausted": "echo/default"} if full else {})


def test_no_worker(lane):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 seconds'")
    assert wrong() == {"NoWorker": "everything"}


@pytest.mark.parametrize(
    ("reason", "count", "ago", "failing"),
    [
        ("signature", 5, MINUTE, True),
        ("stale", 5, MINUTE, True),
        ("signature", 4, MINUTE, False),
        ("signature", 5, 16 * MINUTE, False),
        ("too_large", 50, MINUTE, False),
    ],
)
def test_refused_signatures_are_counted_by_endpoint(lane, reason, count, ago, failing):
    StripeRefusal.objects.create(slug="shop", reason=reason, count=count, at=clock.now() - ago)
    StripeRefusal.objects.create(slug="other", reason="signature", count=1, at=clock.now())
    assert wrong() == ({"StripeSignaturesFailing": "shop"} if failing else {})


@pytest.mark.parametrize(("memory", "cpu", "names"), [(512, 0.9, set()), (513, 0.91, {"MemoryHigh", "CpuHigh"})])
def test_processes_that_use_too_much(lane, memory, cpu, names):
    used = [ProcessUsage("box:worker:7", memory * 1024 * 1024, cpu)]
    found = alert_readings.take(now=clock.now(), processes=used)
    assert {one.name for one in found if BY_NAME[one.name].is_beyond_limit(value=one.value, limit=one.limit)} == names


@pytest.mark.parametrize(
    ("delivered", "count", "ago", "low"),
    [(3, 20, MINUTE, True), (4, 20, MINUTE, False), (0, 19, MINUTE, False), (0, 99, HOUR, False)],
)
def test_retries_that_seldom_help(lane, delivered, count, ago, low):
    at = (clock.now() - ago).replace(second=0, microsecond=0)
    Rollup.objects.create(lane=lane, grain="minute", at=at, retries=count, retries_delivered=delivered)
    assert wrong() == ({"RetrySuccessLow": "echo"} if low else {})


# --- Cron jobs --------------------------------------------------------------------------------------------
@pytest.fixture
def job(alive):
    values = {"schedule": "* * * * *", "active_since": clock.now() - HOUR}
    CronJob.objects.all().delete()
    return CronJob.objects.create(slug="recap", name="recap", tenant="acme", **values)


def test_a_late_job_is_its_tenants(job):
    assert wrong() == {"CronJobLate": "recap"}
    (one,) = [one for one in alert_readings.take(now=clock.now()) if one.name == "CronJobLate"]
    assert (one.tenant, one.subject, one.detail) == ("acme", "recap", "missing")
    job.enabled = False
    job.save()
    assert wrong() == {}


@pytest.mark.parametrize(("ago", "unpinged"), [(59 * MINUTE, False), (61 * MINUTE, True)])
def test_no_ping_of_any_job(job, ago, unpinged):
    CronJob.objects.update(schedule="")
    other = CronJob.objects.create(slug="other", name="other")
    Ping.objects.create(job=job, at=clock.now() - 5 * HOUR, result="run")
    Ping.objects.create(job=other, at=clock.now() - ago, result="repeat")
    assert wrong() == ({"LightEndpointNotPinged": "everything"} if unpinged else {})


def test_an_endpoint_without_a_secret_refuses_all(job, settings):
    CronJob.objects.update(schedule="")
    assert wrong() == {}
    settings.CRON_SECRET = ""
    assert wrong() == {"LightEndpointFailing": "everything"}
    CronJob.objects.update(enabled=False)
    assert wrong() == {}


# --- All of them ------------------------------------------------------------------------------------------
def test_every_rule_is_read_or_prometheus_alone_knows_it():
    """By the sources' own text: a rule that nobody reads would never fire."""
    from pathlib import Path

    import scheduling.alerting

    text = Path(alert_readings.__file__).read_text() + Path(scheduling.alerting.__file__).read_text()
    assert [name for name in NAMES if f'"{name}"' not in text] == []


def test_the_demo_alarms_nobody(alive):
    demo.fill(now=clock.now())
    assert wrong() == {}


def test_it_asks_few_questions_however_much_there_is(lane):
    with CaptureQueriesContext(connection) as queries:
        alert_readings.take(now=clock.now())
    assert len(queries) <= 14
    assert not any("count(*) FROM reliability_de" in one["sql"] for one in queries)
    assert len({rule.name for rule in RULES}) == len(RULES)
