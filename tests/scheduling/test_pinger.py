"""The pinger: what is due is pinged, once for each slot, whoever else pings; nothing holds up anything else."""

import signal
import subprocess
import sys
import threading
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from reliability.core import clock
from reliability.models import Delivery, Flag
from scheduling import alerting, jobs, pinger
from scheduling.models import CronJob, Ping, Run
from scheduling.pinger import Pinger, due_of

from ..support.receiver import until
from ..support.workers import ROOT, environment
from .conftest import pings, runs

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def _alone(db):
    """Only the jobs of the test."""
    CronJob.objects.exclude(builtin="").update(enabled=False)
    pinger._after.cache_clear()


@pytest.mark.django_db
def test_a_due_job_is_pinged_once_for_its_slot(job, post):
    made = job(schedule="* * * * *", overlap="queue", active_since=clock.now() - 2 * MINUTE)
    one, other = Pinger(), Pinger()
    one.ping_due()
    other.ping_due()
    assert len(runs(made)) == 1
    assert post().json()["run"] == str(runs(made)[0].pk)  # by an external cron, for the same slot
    assert pings(made)[0] == "run"
    assert Delivery.objects.count() == 1
    assert made.pings.order_by("id").first().address == "pinger"


@pytest.mark.django_db
def test_metrics_and_alerts_know_of_its_pings_whichever_process_is_asked(job, settings):
    """Its process is not scraped: the database tells a web process that answered no ping."""
    settings.METRICS_TOKEN = ""
    # A name that no other test of this process pinged: a web process knows of its own pings as well.
    made = job(slug="by-the-pinger", schedule="* * * * *", overlap="queue", active_since=clock.now() - 2 * MINUTE)
    Ping.objects.create(job=made, at=clock.now() - 5 * HOUR, result="run")
    assert last_ping(made) == pytest.approx((clock.now() - 5 * HOUR).timestamp(), abs=60)
    assert quiet_seconds() > HOUR.total_seconds()
    Pinger().ping_due()
    assert last_ping(made) == pytest.approx(clock.now().timestamp(), abs=60)
    assert quiet_seconds() < MINUTE.total_seconds()


def last_ping(made: CronJob) -> float:
    text = Client().get("/metrics").content.decode()
    families = {one.name: one for one in text_string_to_metric_families(text)}
    samples = families["backstop_cron_last_ping_timestamp_seconds"].samples
    return next(one.value for one in samples if one.labels == {"job": made.slug})


def quiet_seconds() -> float:
    return next(one.value for one in alerting.read(clock.now()) if one.name == "LightEndpointNotPinged")


@pytest.mark.django_db
def test_what_is_not_due_waits_for_its_slot(job):
    made = job(period_seconds=3600, active_since=clock.now() - HOUR + timedelta(seconds=4))
    wait = Pinger().ping_due()
    assert timedelta() < wait <= timedelta(seconds=4)
    assert runs(made) == []


@pytest.mark.django_db
def test_with_nothing_to_do_it_looks_again_soon():
    CronJob.objects.all().delete()
    assert Pinger().ping_due() == pinger.QUERY_EVERY


@pytest.mark.django_db
@pytest.mark.parametrize(("catch_up", "count"), [("none", 1), ("one", 1), ("all", 4)])
def test_after_a_pause_one_ping_is_made_and_the_job_decides_about_the_rest(job, catch_up, count):
    made = job(schedule="0 * * * *", catch_up=catch_up, overlap="queue")
    slot = clock.now().replace(minute=0, second=0, microsecond=0)
    Run.objects.create(job=made, key="first", slot=slot - 4 * HOUR, started_at=clock.now() - 4 * HOUR)
    Pinger().ping_due()
    found = runs(made)[1:]
    assert len(found) == count
    assert found[-1].slot == slot
    assert found[-1].missed == 3
    assert pings(made) == ["run"]
    assert Pinger().ping_due() > timedelta()


@pytest.mark.django_db
def test_alerts_are_due_every_minute_and_clean_up_as_often_as_the_environment_says(builtin, settings):
    settings.N8N_DLQ_CLEANUP_INTERVAL_MS = 1_800_000
    now = clock.now().replace(minute=30, second=20, microsecond=0)
    minute = now.replace(second=0)
    alerts, cleanup = builtin("alerts"), builtin("cleanup")
    cleanup.active_since = now - DAY

    def due(one, **known):
        return due_of(job=one, **{"last_slot": None, "last_run": None, "now": now, **known}).at

    assert due(alerts) == minute
    assert due(alerts, last_run=now - 21 * pinger.times.SECOND) == minute
    assert due(alerts, last_run=now - 20 * pinger.times.SECOND) == minute + MINUTE
    assert due(cleanup) == now - DAY + HOUR / 2
    assert due(cleanup, last_slot=now - MINUTE) == now - MINUTE + HOUR / 2
    alerts.schedule, alerts.active_since = "@hourly", now - 10 * MINUTE
    assert due(alerts) == now.replace(minute=0, second=0) + HOUR


@pytest.mark.django_db
def test_two_pingers_make_one_run_of_alerts_a_minute(builtin):
    made = builtin("alerts")
    CronJob.objects.filter(pk=made.pk).update(enabled=True)
    Pinger().ping_due()
    Pinger().ping_due()
    assert 1 <= len(runs(made)) <= 2  # two where the minute ended in between
    assert len({one.key for one in runs(made)}) == len(runs(made))


@pytest.mark.django_db
def test_what_others_report_is_not_reported_in_their_place(job):
    """A job without workflows stands for work that is done elsewhere: it is missing until that says so."""
    elsewhere = job("elsewhere", workflows=(), schedule="* * * * *")
    any_time = job("any-time")
    off = job("off", schedule="* * * * *", enabled=False)
    Pinger().ping_due()
    assert [runs(one) for one in (elsewhere, any_time, off)] == [[], [], []]


@pytest.mark.django_db
def test_a_ping_that_fails_keeps_no_other_from_its_turn(job, monkeypatch, caplog):
    bad, good = job("a-bad", schedule="* * * * *"), job("b-good", schedule="* * * * *")
    real = jobs.ping

    def broken(*, slug, key, caller):
        if slug == "a-bad":
            raise RuntimeError("a fault")
        return real(slug=slug, key=key, caller=caller)

    monkeypatch.setattr(jobs, "ping", broken)
    one = Pinger()
    one.ping_due()
    assert (len(runs(bad)), len(runs(good))) == (0, 1)
    assert caplog.text.count("cron_ping_failed") == 1
    assert one.ping_due() > timedelta()  # it is left alone for a while
    assert caplog.text.count("cron_ping_failed") == 1


@pytest.mark.django_db
def test_scheduling_that_is_switched_off_is_respected(job, caplog):
    Flag.objects.update_or_create(name="scheduling", defaults={"enabled": False})
    made = job(schedule="* * * * *")
    one = Pinger()
    one.ping_due()
    one.ping_due()
    assert runs(made) == []
    assert pings(made) == ["off"]


@pytest.mark.django_db
def test_nothing_of_the_demo_is_pinged(job, monkeypatch):
    made = job(schedule="* * * * *")
    monkeypatch.setattr(pinger, "is_demo", lambda pk: pk == made.pk)
    Pinger().ping_due()
    assert runs(made) == []


@pytest.mark.django_db(transaction=True)
def test_it_goes_on_when_its_connection_is_lost_and_ends_when_it_is_told(job):
    made = job(schedule="* * * * * *", overlap="queue")
    process = subprocess.Popen(
        [sys.executable, "manage.py", "pinger"],
        cwd=ROOT,
        env=environment(CRON_SECRET="", ALLOWED_HOSTS="nowhere.example.com", HTTPS="true"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: Run.objects.filter(job=made).count() >= 2, within=60, what="two runs")
        with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid NOT IN (pg_backend_pid(), %s)",
                [connection.connection.info.backend_pid],
            )
        before = Run.objects.filter(job=made).count()
        until(lambda: Run.objects.filter(job=made).count() >= before + 2, within=60, what="two more")
        slots = [one.slot for one in runs(made)]
        assert len(set(slots)) == len(slots)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


@pytest.mark.django_db(transaction=True)
def test_two_at_once_and_an_external_cron_make_one_run_of_each_slot(job, post):
    made = job(schedule="* * * * * *", overlap="queue", active_since=clock.now() - 3 * pinger.times.SECOND)
    stop = clock.now() + 3 * pinger.times.SECOND

    def work() -> None:
        one = Pinger()
        while clock.now() < stop:
            one.ping_due()
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for one in threads:
        one.start()
    while clock.now() < stop:
        assert post().status_code in (200, 202)
    for one in threads:
        one.join()
    slots = [one.slot for one in runs(made)]
    assert len(slots) >= 3
    assert len(set(slots)) == len(slots)
    assert Delivery.objects.count() == len(slots)
