"""The API of workflows, and what else operators do by it: send now, run a cron job."""

from datetime import timedelta

import pytest
from django.test import Client

from reliability.models import AuditEntry, Workflow
from reliability.pipeline import clock
from scheduling.models import CronJob, Run

pytestmark = pytest.mark.django_db
URL = "/api/v1/workflows/"


def post(api, path, body=None):
    return api.post(path, body or {}, content_type="application/json")


def test_a_workflow_is_paused_with_an_end_and_resumed(workflow, api):
    workflow()
    end = clock.now() + timedelta(hours=1)
    paused = post(api, f"{URL}echo/pause/", {"reason": "release", "until": end.isoformat()})
    assert paused.status_code == 200, paused.json()
    shape = {"workflow": "echo", "name": "echo", "paused": True, "paused_reason": "release"}
    assert paused.json() == {**shape, "paused_until": end.isoformat().replace("+00:00", "Z")}
    assert api.get(URL).json()["results"] == [paused.json()]
    assert Workflow.objects.get().paused_until == end
    resumed = post(api, f"{URL}echo/resume/", {"reason": "released"}).json()
    assert (resumed["paused"], resumed["paused_until"]) == (False, None)
    assert list(AuditEntry.objects.order_by("id").values_list("actor", "action", "reason")) == [
        ("key:test", "pause", "release"),
        ("key:test", "resume", "released"),
    ]


def test_a_pause_that_is_over_is_none(workflow, api):
    workflow(paused=True, paused_reason="release", paused_until=clock.now() - timedelta(seconds=1))
    assert api.get(URL).json()["results"][0]["paused"] is False


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("echo/pause/", {"until": "2001-01-01T00:00:00Z"}, 400),
        ("echo/pause/", {"until": "soon"}, 400),
        ("echo/pause/", {"for": "ever"}, 400),
        ("other/pause/", {}, 404),
        ("other/resume/", {}, 404),
    ],
)
def test_what_makes_no_sense_is_refused(workflow, api, path, body, status):
    workflow()
    assert post(api, URL + path, body).status_code == status
    assert not Workflow.objects.get().paused


def test_a_tenants_key_sees_its_own_and_pauses_nothing(workflow, accept, key):
    workflow()
    workflow("other")
    accept(tenant="acme")
    client = Client(headers={"Authorization": f"Bearer {key(tenant='acme')}"})
    assert [one["workflow"] for one in client.get(URL).json()["results"]] == ["echo"]
    for verb in ("pause", "resume"):
        assert post(client, f"{URL}echo/{verb}/").status_code == 403


def test_the_scopes_hold(workflow, accept, key):
    workflow(paused=True)
    made = accept()
    client = Client(headers={"Authorization": f"Bearer {key(scopes=['read'])}"})
    assert client.get(URL).status_code == 200
    assert post(client, f"{URL}echo/pause/").status_code == 403
    assert post(client, f"/api/v1/deliveries/{made.pk}/send-now/").status_code == 403
    assert post(client, "/api/v1/cron-jobs/mine/run/").status_code == 403


def test_a_waiting_delivery_is_sent_now(workflow, accept, api):
    workflow(paused=True)
    made = accept(deliver_at=clock.now() + timedelta(hours=5))
    where = f"/api/v1/deliveries/{made.pk}/send-now/"
    answer = post(api, where, {"reason": "in a hurry"})
    assert answer.status_code == 200
    made.refresh_from_db()
    assert made.due_at <= clock.now()
    assert AuditEntry.objects.get(action="send_now").reason == "in a hurry"
    post(api, f"/api/v1/deliveries/{made.pk}/cancel/")
    assert post(api, where).status_code == 409


def test_another_tenants_delivery_is_not_there(workflow, accept, key):
    workflow(paused=True)
    made = accept()
    client = Client(headers={"Authorization": f"Bearer {key(tenant='acme')}"})
    assert post(client, f"/api/v1/deliveries/{made.pk}/send-now/").status_code == 404


def test_a_cron_job_is_run_by_hand(workflow, api):
    job = CronJob.objects.create(slug="mine", name="Mine")
    job.workflows.add(workflow(paused=True))
    answer = post(api, "/api/v1/cron-jobs/mine/run/", {"reason": "now"})
    assert answer.status_code == 200, answer.json()
    assert len(answer.json()["runs"]) == 1
    assert Run.objects.get().job == job
    assert AuditEntry.objects.get(action="run_cron_job").actor == "key:test"
    assert post(api, "/api/v1/cron-jobs/mine/run/").status_code == 409
    post(api, "/api/v1/cron-jobs/mine/disable/")
    assert post(api, "/api/v1/cron-jobs/mine/run/").status_code == 409
    assert post(api, "/api/v1/cron-jobs/none/run/").status_code == 404
