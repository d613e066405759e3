"""The API of workflows, and what else operators do by it: send now, run a cron job."""

from datetime import timedelta

import pytest
from django.test import Client

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.errors import InvalidInput
from reliability.models import AuditEntry, Workflow
from reliability.n8n import workflow_files
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


DOCUMENT = {
    "name": "Gap Fill",
    "path": "notify-gap-fill",
    "concurrency_limit": 5,
    "minimum_failure_rate": 0.5,
    "retry_policy": {"max_retries": 3, "base_delay_ms": 1000, "jitter_factor": 0.1},
    "stripe_events": ["invoice.*"],
    "tenants": {"acme": {"concurrency_limit": 2}},
}


def put(api, slug, body):
    return api.put(f"{URL}{slug}/", body, content_type="application/json")


def test_a_workflow_is_written_as_its_file_is(api):
    made = put(api, "gap-fill", {**DOCUMENT, "reason": "new"})
    assert made.status_code == 201, made.json()
    assert made.json()["document"] == {"slug": "gap-fill", **DOCUMENT}
    assert api.get(f"{URL}gap-fill/").json() == made.json()
    assert put(api, "gap-fill", made.json()["document"]).status_code == 200
    assert AuditEntry.objects.count() == 1  # nothing was changed by what it is already
    shorter = put(api, "gap-fill", {"path": "elsewhere"}).json()
    assert "concurrency_limit" not in shorter["document"]
    assert shorter["document"]["stripe_events"] == ["invoice.*"]
    row = Workflow.objects.get()
    assert (row.path, row.concurrency_limit, row.max_retries) == ("elsewhere", None, None)
    entry = AuditEntry.objects.last()
    assert (entry.actor, entry.action, entry.reason) == ("key:test", "import_workflow", "new")


@pytest.mark.parametrize(
    ("slug", "change", "field"),
    [
        ("gap-fill", {"path": None}, "path"),
        ("gap-fill", {"path": "a b"}, "path"),
        ("gap-fill", {"path": "%2e%2e/rest"}, "path"),
        ("gap-fill", {"path": "a%00b"}, "path"),
        ("gap-fill", {"slug": "other"}, "slug"),
        ("gap-fill", {"concurrency_limit": 0}, "concurrency_limit"),
        ("gap-fill", {"concurrency_limit": "5"}, "concurrency_limit"),
        ("gap-fill", {"retry_policy": {"base_delay_ms": 5, "max_delay_ms": 1}}, "base_delay_ms"),
        ("gap-fill", {"retry_policy": {"tries": 1}}, "retry_policy.tries"),
        ("gap-fill", {"tenants": {"acme": {"timeout": 1}}}, "tenants.acme.timeout"),
        ("gap-fill", {"auth_value": "s3cret"}, "auth_value"),
        ("gap-fill", {"reason": 5}, "reason"),
        ("Gap_Fill", {}, "slug"),
    ],
)
def test_a_document_that_makes_no_sense_is_refused_by_field(api, slug, change, field):
    answer = put(api, slug, {**DOCUMENT, **change})
    assert answer.status_code == 400
    assert field in answer.json()["errors"], answer.json()
    assert not Workflow.objects.exists()


def test_a_workflow_is_written_by_operators_of_all_tenants(workflow, key):
    workflow()
    for values in ({"tenant": "acme"}, {"scopes": ["read"]}):
        who = Client(headers={"Authorization": f"Bearer {key(**values)}"})
        assert put(who, "echo", DOCUMENT).status_code == 403
        assert post(who, f"{URL}echo/secrets/", {"auth_value": "x"}).status_code == 403
    assert Client(headers={"Authorization": f"Bearer {key(tenant='acme')}"}).get(f"{URL}echo/").status_code == 403
    row = Workflow.objects.get()
    assert (row.path, row.auth_value) == ("echo", "")


def test_what_the_api_documents_is_what_a_file_may_hold():
    from reliability.api.delivery import workflows as shapes
    from reliability.n8n import workflow_files as files
    from scheduling import api, job_files

    known = {*files.IDENTITY_FIELDS, *files.TOP_LEVEL_FIELDS, *files.OPERATOR_FIELDS, "retry_policy", "reason"}
    assert shapes.WorkflowDocument().fields.keys() == known
    assert set(shapes.RetryPolicy().fields) == set(files.RETRY_POLICY_FIELDS)
    assert api.CronJobDocument().fields.keys() == {*job_files.KINDS, "workflows", "reason"}


def test_a_workflows_secrets_are_kept_and_never_answered_with(workflow, api):
    workflow(auth_header="X-Auth")
    signing = "whsec_" + "A" * 32
    answer = post(api, f"{URL}echo/secrets/", {"auth_value": "s3cret", "signing_secret": signing, "reason": "set up"})
    assert answer.status_code == 200, answer.json()
    row = Workflow.objects.get()
    assert (row.auth_value, row.signing_secret) == ("s3cret", signing)
    told = answer.content.decode() + api.get(f"{URL}echo/").content.decode() + str(list(AuditEntry.objects.values()))
    assert "s3cret" not in told
    assert signing not in told
    post(api, f"{URL}echo/secrets/", {"auth_value": ""})
    row.refresh_from_db()
    assert (row.auth_value, row.signing_secret) == ("", signing)
    entries = AuditEntry.objects.order_by("id").values_list("action", "details")
    assert list(entries) == [
        ("set_workflow_secrets", {"fields": ["auth_value", "signing_secret"]}),
        ("set_workflow_secrets", {"fields": ["auth_value"]}),
    ]


@pytest.mark.parametrize(
    ("slug", "body", "status"),
    [
        ("echo", {}, 400),
        ("echo", {"password": "x"}, 400),
        ("echo", {"auth_value": 5}, 400),
        ("echo", {"signing_secret": "nonsense"}, 400),
        ("echo", {"signing_secret": "whsec_"}, 400),
        ("echo", {"signing_secret": "whsec_ä"}, 400),
        ("echo", {"auth_value": "a\r\nX-Other: b"}, 400),
        ("none", {"auth_value": "x"}, 404),
    ],
)
def test_secrets_that_make_no_sense_are_refused(workflow, api, slug, body, status):
    workflow()
    assert post(api, f"{URL}{slug}/secrets/", body).status_code == status
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    ("path", "sent"),
    [("grün", "gr%C3%BCn"), ("gr%C3%BCn", "gr%C3%BCn"), ("日本", "%E6%97%A5%E6%9C%AC"), ("a%20b", "a%20b")],
)
def test_a_path_is_kept_as_it_was_written_and_sent_encoded_once(api, settings, path, sent):
    settings.N8N_WEBHOOK_URL = "http://n8n:5678/webhook"
    answer = put(api, "named", {"path": path})
    assert answer.status_code == 201, answer.json()
    assert answer.json()["document"]["path"] == path
    assert Workflow.objects.get().url == f"http://n8n:5678/webhook/{sent}"


def test_a_path_without_a_letter_for_a_slug_needs_one_and_says_so():
    with pytest.raises(InvalidInput) as refusal:
        workflow_files.load(documents=[{"path": "日本"}], actor=Actor(name="test"), now=clock.now())
    assert refusal.value.errors == {
        "0.slug": ["The path holds none of a-z and 0-9 to make a slug of: give the workflow one."]
    }


def test_a_path_gives_the_same_slug_encoded_or_not():
    for path in ("grün/a", "gr%C3%BCn/a"):
        (done,) = workflow_files.load(documents=[{"path": path}], actor=Actor(name="test"), now=clock.now())
        assert done.slug == "gr-n-a"
