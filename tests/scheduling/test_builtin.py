"""The jobs that Backstop does itself: a ping makes one wake-up, and its end is on the run."""

from datetime import timedelta

import pytest
from django.db import connection

from reliability.core import clock
from reliability.models import StripeRefusal
from reliability.queue import tasks
from reliability.retention import runner
from scheduling import health, housekeeping
from scheduling.models import CronJob, Ping, Run

from ..support.receiver import until
from .conftest import pings, runs

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def waiting() -> int:
    """How many routines wait for a worker."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'routine' AND status = 'todo'")
        return cursor.fetchone()[0]


def begin() -> None:
    """Take the waiting routine away, as a worker that begins it does."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE task_name = 'routine'")


@pytest.mark.django_db
def test_they_are_there_from_the_start():
    assert set(CronJob.objects.values_list("slug", "builtin")) == {("cleanup", "cleanup"), ("alerts", "alerts")}


@pytest.mark.django_db
def test_clean_up_is_expected_as_often_as_the_environment_says(builtin, settings):
    job = builtin("cleanup")
    assert job.expected.period == timedelta(hours=1)
    settings.N8N_DLQ_CLEANUP_INTERVAL_MS = 60_000
    assert job.expected.period == timedelta(minutes=1)
    job.schedule = "0 3 * * *"
    assert job.expected.period is None


@pytest.mark.django_db(transaction=True)
def test_ten_pings_make_one_wake_up(builtin, post):
    job = builtin("alerts")
    answers = [post("alerts", key=str(n)) for n in range(10)]
    assert {one.status_code for one in answers} == {202}
    assert all(one.json()["delivery_ids"] == [] for one in answers)
    assert ["skipped" in one.json() for one in answers] == [False] + [True] * 9
    assert waiting() == 1
    begin()
    assert "skipped" not in post("alerts", key="next").json()
    assert waiting() == 1
    assert pings(job).count("run") == 2


@pytest.mark.django_db(transaction=True)
def test_a_wake_up_commits_with_its_run(builtin, post):
    builtin("cleanup")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE scheduling_ping ADD CONSTRAINT no_more CHECK (result <> 'run') NOT VALID")
    try:
        with pytest.raises(Exception, match="no_more"):
            post("cleanup")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE scheduling_ping DROP CONSTRAINT no_more")
    assert (waiting(), Run.objects.count()) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_worker_cleans_up(builtin, post, workers):
    job = builtin("cleanup")
    StripeRefusal.objects.create(slug="shop", reason="signature", at=clock.now() - 31 * DAY)
    assert post("cleanup").status_code == 202
    assert post("cleanup").status_code == 200
    workers.start()
    until(lambda: Run.objects.filter(finished_at__isnull=False).exists(), what="the run's end")
    (run,) = runs(job)
    assert (run.result, run.error) == ("accepted", "")
    assert not StripeRefusal.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_ends_stops_cleaning_up_after_a_batch(builtin, post, workers):
    job = builtin("cleanup")
    at = clock.now() - 31 * DAY
    StripeRefusal.objects.bulk_create(
        [StripeRefusal(slug="shop", reason="signature", at=at) for _ in range(20_000)], batch_size=5000
    )
    assert post("cleanup").status_code == 202
    worker = workers.start(CLEANUP_LOAD="0.05")
    until(lambda: StripeRefusal.objects.count() < 20_000, within=60, what="a first batch")
    assert workers.end(worker) < 20
    (run,) = runs(job)
    assert (run.result, run.error) == ("failed", "Unfinished: The worker stopped. The next run continues.")
    assert StripeRefusal.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_rule_that_fails_is_on_the_runs_record(builtin, post, monkeypatch):
    job = builtin("cleanup")
    run_id = post("cleanup", key="one").json()["run"]
    broken = runner.delete_rule(name="broken", what="", age=timedelta, table="no_such_table", where="true")
    monkeypatch.setattr(runner, "_rules", {"broken": broken})
    tasks._routines["cleanup"](Run.objects.get(pk=run_id).pk)
    (run,) = runs(job)
    assert run.result == "failed"
    assert 'broken: relation "no_such_table" does not exist' in run.error


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_on_record(builtin, post, monkeypatch, caplog):
    job = builtin("alerts")
    run_id = post("alerts", key="one").json()["run"]
    monkeypatch.setattr(health, "watch", lambda *, now: 1 / 0)
    tasks._routines["alerts"](Run.objects.get(pk=run_id).pk)
    (run,) = runs(job)
    assert (run.result, run.error) == ("failed", "ZeroDivisionError: division by zero")
    assert run.finished_at is not None
    assert "routine_failed" in caplog.text
    (found,) = health.of(jobs=[job], now=clock.now())
    assert found.status.state == "failing"


@pytest.mark.django_db
def test_a_run_whose_worker_was_lost_is_found_by_the_next(builtin, post):
    job = builtin("alerts")
    post("alerts", key="one")
    begin()
    second = post("alerts", key="two").json()["run"]
    housekeeping.finish(run_id=Run.objects.get(pk=second).pk, error="", now=clock.now())
    first, second = runs(job)
    assert (first.result, first.error) == ("failed", housekeeping.LOST)
    assert (second.result, second.error) == ("accepted", "")


@pytest.mark.django_db
def test_without_a_worker_it_shows(builtin, post):
    job = builtin("alerts")
    post("alerts", key="one")
    now = clock.now()
    assert [health.of(jobs=[job], now=now + wait)[0].status.state for wait in (MINUTE, 6 * MINUTE)] == [
        "ok",
        "failing",
    ]
    post("alerts", key="two")
    assert health.of(jobs=[job], now=now)[0].status.state == "overlapping"


@pytest.mark.django_db
def test_old_pings_and_runs_go_and_a_jobs_last_run_stays(job):
    now = clock.now()
    made = job()
    ages = [200, 150, 100, 10]
    from reliability.models import ids
    from reliability.retention import runner

    for age in ages:
        at = now - age * DAY
        run = Run.objects.create(id=ids.at_least(at + ids.SKEW), job=made, key=str(age), started_at=at)
        Ping.objects.create(job=made, at=at, result="run", run=run)
    late = Run.objects.get(key="150")
    Ping.objects.create(job=made, at=now - DAY, result="repeat", run=late)
    yearly = job("yearly")
    Run.objects.create(id=ids.at_least(now - 300 * DAY), job=yearly, key="only", started_at=now - 300 * DAY)
    done = {one.name: one.rows for one in runner.cleanup(now=now)}
    assert (done["cron_pings"], done["cron_runs"]) == (3, 2)
    assert sorted(Run.objects.values_list("key", flat=True)) == ["10", "150", "only"]


@pytest.mark.django_db
def test_a_change_of_state_is_kept_told_once_and_logged(job, caplog):
    now = clock.now()
    made = job(schedule="0 9 * * *", active_since=now)
    with caplog.at_level("INFO"):
        first = health.watch(now=now)
        assert {(one.job, one.before, one.state, one.is_worse) for one in first} >= {("recap", "", "new", False)}
        assert health.watch(now=now) == []
        (change,) = [one for one in health.watch(now=now + 3 * DAY) if one.job == "recap"]
    assert (change.before, change.state, change.is_worse) == ("new", "missing", True)
    made.refresh_from_db()
    assert (made.health, made.health_changed_at) == ("missing", now + 3 * DAY)
    lines = [(one.levelname, one.job, one.state) for one in caplog.records if one.message == "cron_job_state"]
    assert ("WARNING", "recap", "missing") in lines
    assert ("INFO", "recap", "new") in lines


@pytest.mark.django_db
def test_the_summary_counts_by_state_and_names_what_needs_a_look(job, post, django_assert_num_queries):
    now = clock.now()
    late = job("late", schedule="0 9 * * *", active_since=now - 3 * DAY, tenant="acme")
    job("busy")
    post("busy")
    post("busy")
    job("off", enabled=False)
    with django_assert_num_queries(3):
        found = health.summary(now=now)
    assert found["by_state"] == {
        **dict.fromkeys(found["by_state"], 0),
        "missing": 1,
        "overlapping": 1,
        "disabled": 1,
        "new": 2,
    }
    assert {(one["job"], one["state"]) for one in found["attention"]} == {("late", "missing"), ("busy", "overlapping")}
    assert health.summary(now=now, tenant="acme")["attention"][0]["job"] == late.slug
    assert len(health.summary(now=now, tenant="acme")["attention"]) == 1


@pytest.mark.django_db
def test_the_status_has_it(job, api):
    job(schedule="0 9 * * *")
    found = api.get("/api/v1/status/").json()["cron_jobs"]
    assert found["by_state"]["missing"] == 1
    (one,) = found["attention"]
    assert (one["job"], one["state"]) == ("recap", "missing")


@pytest.mark.django_db
def test_a_held_run_overlaps(job, post):
    made = job(overlap="queue")
    post()
    assert health.of(jobs=[made], now=clock.now())[0].status.state == "ok"
    post()
    assert health.of(jobs=[made], now=clock.now())[0].status.state == "overlapping"
