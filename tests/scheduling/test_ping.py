"""POST /cron/<job>/: one run for each slot or key, kept before the answer."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from config import wsgi
from reliability.models import Delivery, Flag, Workflow
from scheduling import jobs
from scheduling.models import CronJob, Ping, Run

from .conftest import pings, runs

NINE = datetime(2026, 6, 15, 9, tzinfo=UTC)


@pytest.fixture
def at(monkeypatch):
    """Set the moment at which a ping is read."""
    real = jobs._read

    def set_to(moment):
        def look(slug):
            found = real(slug)
            return jobs._JobState(moment, found.on, found.workflows, found.last, found.job)

        monkeypatch.setattr(jobs, "_read", look)

    return set_to


@pytest.mark.django_db
def test_a_ping_becomes_a_delivery_for_each_workflow(job, post, at):
    made = job(schedule="0 9 * * *", workflows=("one", "two"), tenant="acme", payload={"week": 7})
    at(NINE + timedelta(seconds=3))
    answer = post()
    assert answer.status_code == 202
    body = answer.json()
    (run,) = runs(made)
    assert body == {
        "ok": True,
        "job": "recap",
        "delivery_ids": [str(one) for one in run.delivery_ids],
        "run": str(run.pk),
        "slot": "2026-06-15T09:00:00Z",
    }
    first, second = (Delivery.objects.get(pk=one) for one in run.delivery_ids)
    assert [one.lane.workflow.slug for one in (first, second)] == ["one", "two"]
    assert {one.lane.tenant for one in (first, second)} == {"acme"}
    assert {one.source for one in (first, second)} == {"cron"}
    assert first.idempotency_key == second.idempotency_key == "cron:recap:2026-06-15T09:00:00Z"
    assert first.document == {
        "job": "recap",
        "run": str(run.pk),
        "slot": "2026-06-15T09:00:00Z",
        "triggered_at": "2026-06-15T09:00:03Z",
        "missed": 0,
        "missed_since": None,
        "data": {"week": 7},
    }
    assert pings(made) == ["run"]


@pytest.mark.django_db
def test_the_same_slot_again_gets_the_first_ids(job, post, at):
    made = job(schedule="0 9 * * *")
    at(NINE - timedelta(seconds=2))
    first = post()
    at(NINE + timedelta(minutes=59))
    again = post()
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert Delivery.objects.count() == 1
    assert pings(made) == ["run", "repeat"]
    at(NINE + timedelta(days=1))
    Delivery.objects.update(state="delivered")
    assert post().status_code == 202


@pytest.mark.django_db
def test_a_key_names_the_run_instead_of_the_slot(job, post, at):
    made = job(schedule="0 9 * * *", overlap="queue")
    at(NINE)
    first, again, other = post(key="a"), post(key="a"), post(key="b")
    assert [one.status_code for one in (first, again, other)] == [202, 200, 202]
    assert again.json()["delivery_ids"] == first.json()["delivery_ids"] != other.json()["delivery_ids"]
    assert [one.key for one in runs(made)] == ["a", "b"]
    assert {one.slot for one in runs(made)} == {NINE}


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "x" * 256, "ü", "a\tb"])
def test_a_senseless_key_is_refused(job, post, key):
    job()
    answer = post(key=key)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "Idempotency-Key" in answer.json()["errors"]
    assert not Run.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("after", "runs_then"),
    [
        (timedelta(seconds=0), 1),
        (timedelta(minutes=29, seconds=59), 1),
        (timedelta(minutes=30), 2),
        (timedelta(minutes=61), 2),
    ],
    ids=str,
)
def test_within_half_a_period_it_is_the_same_run(job, post, at, after, runs_then):
    made = job(period_seconds=3600, overlap="queue")
    at(NINE)
    first = post()
    at(NINE + after)
    second = post()
    assert len(runs(made)) == runs_then
    assert (first.json()["run"] == second.json()["run"]) is (runs_then == 1)
    assert first.json()["slot"] == "2026-06-15T09:00:00Z"


@pytest.mark.django_db
def test_with_no_schedule_each_ping_is_a_run(job, post):
    made = job(overlap="queue")
    assert [post().status_code for _ in range(3)] == [202] * 3
    assert len(runs(made)) == 3
    assert post().json()["slot"] is None


@pytest.mark.django_db
def test_a_job_without_workflows_only_notes_that_it_ran(job, post):
    job(workflows=())
    assert (post().status_code, post().json()["delivery_ids"]) == (202, [])


@pytest.mark.django_db
def test_weekly_recap_has_an_address_of_its_own(job, post):
    job("weekly-recap")
    for path in ("/api/weekly-recap", "/api/weekly-recap/"):
        answer = post(path=path, key="one")
        assert answer.json()["job"] == "weekly-recap"
    assert Delivery.objects.count() == 1


@pytest.mark.django_db
def test_what_is_refused(job, post, settings):
    made = job()
    off = job("off", enabled=False, disabled_reason="holidays")
    for answer, status in [(post("unknown"), 404), (post("off"), 409)]:
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert "holidays" in post("off").json()["detail"]
    assert pings(off) == ["disabled", "disabled"]
    wrong = post(secret="wrong")
    assert (wrong.status_code, wrong.json()) == (403, {"ok": False, "code": "FORBIDDEN"})
    Flag.objects.filter(name="scheduling").update(enabled=False)
    switched_off = post()
    assert (switched_off.status_code, switched_off.headers["Retry-After"]) == (503, "60")
    assert pings(made) == ["off"]
    Flag.objects.update(enabled=True)
    assert post().status_code == 202
    settings.CRON_SECRET = ""
    unset = post()
    assert (unset.status_code, unset.json()) == (503, {"ok": False, "code": "NO_SECRET_SET"})
    assert Run.objects.count() == 1


@pytest.mark.django_db
def test_the_body_is_not_read(job, post):
    job()
    assert post(data="{not json", content_type="application/json").status_code == 202


@pytest.mark.django_db(transaction=True)
def test_the_wsgi_application_hands_a_ping_on(job, settings):
    job()
    settings.CRON_SECRET = "a-cron-secret"
    environ = RequestFactory().post("/cron/recap/", headers={"X-Cron-Secret": "a-cron-secret"}).environ
    answered = []
    body = wsgi.application(environ, lambda status, headers: answered.append(status))
    assert answered == ["202 Accepted"]
    assert json.loads(b"".join(body))["job"] == "recap"


@pytest.mark.django_db
def test_a_ping_says_from_where_it_came_and_how_long_it_took(job, post):
    job()
    post(REMOTE_ADDR="192.0.2.7")
    noted = Ping.objects.get()
    assert noted.address == "192.0.2.7"
    assert 0 <= noted.duration_ms < 5000
    assert noted.run == Run.objects.get()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("refused", [False, True])
def test_it_takes_two_statements(job, post, at, refused):
    job(schedule="0 9 * * *", workflows=("one", "two", "three"), catch_up="all", enabled=not refused)
    if not refused:
        at(NINE)
        post()  # the first one opens the lanes
        Delivery.objects.update(state="delivered")
        at(NINE + timedelta(days=4))
    with CaptureQueriesContext(
        connection,
    ) as seen:
        answer = post()
    assert answer.status_code == (409 if refused else 202)
    assert len(seen) == 2, [one["sql"][:80] for one in seen]
    assert Delivery.objects.count() == (0 if refused else 3 * 5)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("expected", [{"schedule": "0 9 1 1 *"}, {"period_seconds": 3600}], ids=str)
def test_64_at_once_make_one_run(job, post, expected):
    made = job(workflows=("one", "two"), **expected)
    together = threading.Barrier(64)
    answers = []

    def send():
        together.wait()
        try:
            answers.append(post())
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.status_code for one in answers) == [200] * 63 + [202]
    assert len({str(one.json()) for one in answers}) == 1
    assert len(runs(made)) == 1
    assert Delivery.objects.count() == 2
    assert pings(made).count("run") == 1
    assert len(pings(made)) == 64


@pytest.mark.django_db(transaction=True)
def test_a_ping_that_cannot_be_kept_leaves_nothing(job, post, monkeypatch):
    made = job()
    post(key="first")
    Delivery.objects.update(state="delivered")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE scheduling_ping ADD CONSTRAINT no_more CHECK (result <> 'run') NOT VALID")
    try:
        with pytest.raises(Exception, match="no_more"):
            post(key="second")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE scheduling_ping DROP CONSTRAINT no_more")
    assert len(runs(made)) == 1
    assert Delivery.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_deadlock_that_was_broken_up_is_tried_again(job, post):
    made = job()
    broken = []

    def break_up(execute, sql, params, many, context):
        if "backstop_run_cron" in sql and not broken:
            broken.append(sql)
            sql, params = "DO $$ BEGIN RAISE 'broken up' USING ERRCODE = 'deadlock_detected'; END $$", None
        return execute(sql, params, many, context)

    with connection.execute_wrapper(break_up):
        assert post().status_code == 202
    assert len(broken) == len(runs(made)) == 1


@pytest.mark.django_db
def test_a_workflow_that_was_deleted_meanwhile_is_not_called(job, post, at):
    made = job(workflows=("one", "two"))
    Workflow.objects.get(slug="two").delete()
    assert len(post().json()["delivery_ids"]) == 1
    assert CronJob.objects.get(pk=made.pk).workflows.count() == 1


@pytest.mark.django_db
def test_a_key_that_names_a_missed_slot_is_the_run_for_it(job, post, at):
    made = job(schedule="0 9 * * *", catch_up="all")
    at(NINE)
    post()
    at(NINE + timedelta(days=2))
    answer = post(key="2026-06-16T09:00:00Z")
    assert answer.status_code == 202
    assert [one.key for one in runs(made)] == ["2026-06-15T09:00:00Z", "2026-06-16T09:00:00Z"]
    again = post(key="2026-06-16T09:00:00Z")
    assert (again.status_code, again.json()) == (200, answer.json())


@pytest.mark.parametrize("path", ["/cron/recap/", "/api/weekly-recap"])
@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_another_method_is_a_problem(client, path, method):
    answer = getattr(client, method)(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (405, "application/problem+json")
    assert answer.headers["Allow"] == "GET, HEAD, POST"
