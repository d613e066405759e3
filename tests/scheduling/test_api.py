"""The API of cron jobs."""

from datetime import UTC, datetime

import pytest
from django.test import Client

from reliability.models import AuditEntry
from scheduling import api as shapes
from scheduling import jobs
from scheduling.models import CronJob
from scheduling.schedules import times

pytestmark = [pytest.mark.usefixtures("held_against_schema"), pytest.mark.django_db]
URL = "/api/v1/cron-jobs/"


def test_the_list_says_how_each_stands(job, post, api, django_assert_num_queries):
    job("weekly-recap", schedule="0 9 * * MON", workflows=("two", "one"))
    post("weekly-recap")
    for number in range(5):
        job(f"other-{number}")
    api.get(URL)
    with django_assert_num_queries(6):
        body = api.get(URL).json()
    assert set(body) == {"next", "previous", "results"}
    found = {one["job"]: one for one in body["results"]}
    assert len(found) == 8
    one = found["weekly-recap"]
    assert one.keys() == shapes.CronJobInList().fields.keys()
    assert (one["workflows"], one["state"], one["builtin"]) == (["one", "two"], "ok", False)
    assert one["last_run"].keys() == shapes.CronRunSerializer().fields.keys()
    assert len(one["last_run"]["delivery_ids"]) == 2
    assert found["cleanup"]["period_seconds"] == 3600
    assert found["other-1"]["last_run"] is None


def test_one_shows_its_last_runs(job, post, api):
    job(workflows=())
    for number in range(22):
        post(key=str(number))
    body = api.get(f"{URL}recap/").json()
    assert body.keys() == shapes.CronJobSerializer().fields.keys()
    assert [one["key"] for one in body["runs"]] == [str(number) for number in range(21, 1, -1)]
    assert body["last_run"] == body["runs"][0]
    assert api.get(f"{URL}nowhere/").status_code == 404
    assert api.get(URL, {"tenant": "x"}).status_code == 400


def test_a_job_is_disabled_and_enabled(job, post, api):
    made = job()
    answer = api.post(f"{URL}recap/disable/", {"reason": "release"}, content_type="application/json")
    assert (answer.status_code, answer.json()["state"]) == (200, "disabled")
    assert answer.json()["disabled_reason"] == "release"
    assert post().status_code == 409
    assert api.post(f"{URL}recap/enable/", {}, content_type="application/json").json()["enabled"]
    assert post().status_code == 202
    assert CronJob.objects.get(pk=made.pk).active_since > made.active_since
    entries = AuditEntry.objects.filter(target_id=str(made.pk)).values_list("action", "actor", "reason")
    assert set(entries) == {("disable_cron_job", "key:test", "release"), ("enable_cron_job", "key:test", "")}


@pytest.mark.parametrize(("tenant", "sees"), [("acme", {"theirs"}), ("default", {"ours"}), ("other", set())])
def test_a_tenants_key_reaches_its_own_jobs_alone(job, key, tenant, sees):
    job("ours"), job("theirs", tenant="acme")
    client = Client(headers={"Authorization": f"Bearer {key(tenant=tenant)}"})
    assert {one["job"] for one in client.get(URL).json()["results"]} == sees
    for slug in ("ours", "theirs", "cleanup"):
        assert client.get(f"{URL}{slug}/").status_code == (200 if slug in sees else 404)
        disabled = client.post(f"{URL}{slug}/disable/", {}, content_type="application/json")
        assert disabled.status_code == (200 if slug in sees else 404)
    assert CronJob.objects.filter(enabled=False).count() == len(sees)


def test_scopes_hold(job, key):
    job()
    reader = Client(headers={"Authorization": f"Bearer {key(scopes=['read'])}"})
    assert reader.get(URL).status_code == 200
    assert reader.post(f"{URL}recap/disable/", {}, content_type="application/json").status_code == 403
    operator = Client(headers={"Authorization": f"Bearer {key(scopes=['operate'])}"})
    assert operator.get(URL).status_code == 403
    assert Client().get(URL).status_code == 401


def put(api, job, **body):
    return api.put(f"{URL}{job}/", body, content_type="application/json")


def test_a_job_is_written_as_its_file_is(workflow, api):
    workflow("one")
    body = {"name": "Recap", "schedule": "0 9 * * MON", "workflows": ["one"], "payload": {"a": 1.5}}
    made = put(api, "recap", **body, reason="new")
    assert made.status_code == 201, made.json()
    assert {name: made.json()[name] for name in body} == body
    assert put(api, "recap", **body).status_code == 200
    assert AuditEntry.objects.count() == 1
    shorter = put(api, "recap", period_seconds=60).json()
    assert (shorter["schedule"], shorter["period_seconds"], shorter["workflows"]) == ("", 60, [])
    entry = AuditEntry.objects.first()
    assert (entry.actor, entry.action) == ("key:test", "import_cron_job")


@pytest.mark.parametrize(
    ("schedule", "slot"), [("@yearly", "2026-01-01T00:00:00Z"), ("15 30 9 1 jan ?", "2026-01-01T09:30:15Z")]
)
def test_a_job_takes_the_dialects_of_cron_and_n8n(api, schedule, slot, workflow):
    workflow("one")
    made = put(api, "recap", schedule=schedule, workflows=["one"])
    assert (made.status_code, made.json()["schedule"]) == (201, schedule)
    found = times.slot_at(schedule=CronJob.objects.get(slug="recap").expected, now=datetime(2026, 6, 15, tzinfo=UTC))
    assert jobs.iso(found) == slot


@pytest.mark.parametrize(
    ("slug", "change", "field"),
    [
        ("recap", {"schedule": "when I like"}, "schedule"),
        ("recap", {"timezone": "Mars"}, "timezone"),
        ("recap", {"workflows": ["none"]}, "workflows"),
        ("recap", {"slug": "other"}, "slug"),
        ("recap", {"secret": "x"}, "secret"),
        ("recap", {"period_seconds": 0}, "period_seconds"),
        ("re_cap", {}, "slug"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_by_field(api, db, slug, change, field):
    answer = put(api, slug, **change)
    assert answer.status_code == 400
    assert field in answer.json()["errors"], answer.json()
    assert not CronJob.objects.filter(builtin="").exists()


def test_jobs_are_written_by_operators_of_all_tenants(job, key):
    job("theirs", tenant="acme")
    for values in ({"tenant": "acme"}, {"scopes": ["read"]}):
        who = Client(headers={"Authorization": f"Bearer {key(**values)}"})
        assert put(who, "theirs", name="Other").status_code == 403
        assert put(who, "new").status_code == 403
