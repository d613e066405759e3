"""Each way in by which a workflow's header or secret can be set refuses what could not be sent, and says why."""

import json
from io import StringIO

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.lanes import opening
from reliability.models import Lane, Workflow
from reliability.n8n import workflow_files
from reliability.setup import workflow_secrets
from reliability.setup.doctor import service

pytestmark = pytest.mark.django_db(transaction=True)
BAD = ["X–Api–Key", "X-A:", "X-A\r\nB", "Idempotency-Key", "host", "X-Backstop-Delivery", "webhook-id", "Connection"]


def document(name: str, **values):
    return {"name": "Echo", "slug": "echo", "path": "echo", "auth_header": name, **values}


@pytest.mark.parametrize("name", BAD)
def test_the_api_refuses_it(api, name):
    answer = api.put("/api/v1/workflows/echo/", json.dumps(document(name)), content_type="application/json")
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["auth_header"]
    assert not Workflow.objects.exists()


@pytest.mark.parametrize("name", BAD)
def test_a_workflow_file_is_refused(tmp_path, name):
    file = tmp_path / "echo.json"
    file.write_text(json.dumps(document(name)))
    with pytest.raises(CommandError, match="auth_header"):
        call_command("import_workflows", str(file), stdout=StringIO())
    assert not Workflow.objects.exists()


@pytest.mark.parametrize("name", BAD)
def test_the_model_refuses_it(workflow, name):
    made = workflow()
    made.auth_header = name
    with pytest.raises(ValidationError) as caught:
        made.full_clean()
    assert list(caught.value.message_dict) == ["auth_header"]


@pytest.mark.parametrize("name", [one for one in BAD if "\r" not in one])
def test_the_console_refuses_it(workflow, admin_client, name):
    made = workflow()
    page = f"/admin/reliability/workflow/{made.pk}/change/"
    values = {"name": "echo", "slug": "echo", "path": "echo", "stripe_events": "", "auth_header": name, "reason": "x"}
    answer = admin_client.post(page, values)
    assert answer.status_code == 200
    assert "auth_header" in answer.context["adminform"].form.errors
    made.refresh_from_db()
    assert made.auth_header == ""


@pytest.mark.parametrize("value", ["two\nlines", "a\x00b", "日本", "a\tb"])
def test_a_value_that_cannot_be_sent_is_refused(workflow, api, value, monkeypatch):
    workflow()
    body = json.dumps({"auth_value": value})
    assert api.post("/api/v1/workflows/echo/secrets/", body, content_type="application/json").status_code == 400
    monkeypatch.setattr("sys.stdin", StringIO(value))
    with pytest.raises(CommandError):
        call_command("workflow_secret", "echo", "--auth-value", stdout=StringIO())
    assert Workflow.objects.get().auth_value == ""


def test_a_secret_can_be_corrected_while_the_header_s_name_is_wrong(workflow):
    made = workflow()
    Workflow.objects.update(auth_header="X-A:")
    values = {"auth_value": "right"}
    workflow_secrets.keep(workflow_id=made.pk, values=values, actor=Actor("t"), now=clock.now())
    assert Workflow.objects.get().auth_value == "right"


def test_only_a_change_of_the_route_is_noted_as_one(workflow):
    workflow(auth_header="X-A")
    for change, noted in (({"name": "New"}, False), ({"concurrency_limit": 2}, False), ({"path": "new"}, True)):
        workflow_files.load(documents=[{**document("X-A"), **change}], actor=Actor("t"), now=clock.now())
        assert (Workflow.objects.get().route_changed_at is not None) is noted


def test_the_doctor_finds_what_is_stored(workflow):
    made, other = workflow(auth_value="s"), workflow("other")
    assert [one.state for one in service.requests()] == ["ok"]
    Workflow.objects.filter(pk=made.pk).update(auth_header="X-A:")
    lane = opening.open_lane(workflow_id=other.pk, tenant="default")
    Lane.objects.filter(pk=lane.pk).update(fault="REQUESTS_CA_BUNDLE: There is no such file.")
    found = list(service.requests())
    assert [one.state for one in found] == ["failure", "warning"]
    assert "'echo': auth_header: Not a header's name" in found[0].found
    assert "other/default" in found[1].found
    assert "requests" in {one.name for one in service.CHECKS}
