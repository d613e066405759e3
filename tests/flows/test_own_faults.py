"""What is wrong on our side charges nobody else, and what we know to be secret is not kept."""

import base64

import pytest

from reliability.core import clock
from reliability.models import Attempt, Breaker, DeadLetter, Delivery, FailureReport
from reliability.n8n import callbacks, failure_reports
from reliability.n8n.callbacks import Completion
from reliability.policies.failure import Failure

from ..support.receiver import Reply

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "tok/en+123456789"  # a made-up one


def test_a_certificate_file_that_is_missing_waits_and_charges_nobody(
    workflow, receiver, accept_many, drain, monkeypatch, settings
):
    workflow(base_delay_ms=60_000, max_delay_ms=60_000, max_retries=0)
    settings.N8N_WEBHOOK_URL = receiver.url.replace("http:", "https:")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    accept_many(5)
    drain()
    rows = list(Attempt.objects.all())
    assert {(one.result, one.code) for one in rows} == {("misconfigured_locally", "ca_bundle_missing")}
    assert "REQUESTS_CA_BUNDLE" in rows[0].error
    assert {(one.state, one.retries_used) for one in Delivery.objects.all()} == {("pending", 0)}
    assert {one.state for one in Breaker.objects.all()} == {"closed"}
    assert not DeadLetter.objects.exists()
    assert receiver.got == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (f"Bearer {TOKEN}", [f"Bearer {TOKEN}", TOKEN, TOKEN.replace("/", "\\/"), TOKEN.replace("/", "%2F")]),
        (f"Basic {base64.b64encode(f'olga:{TOKEN}'.encode()).decode()}", [f"olga:{TOKEN}", TOKEN]),
    ],
)
@pytest.mark.parametrize("status", [200, 422])
def test_a_secret_that_n8n_repeats_is_not_kept(workflow, receiver, accept, drain, value, shown, status, caplog):
    workflow(auth_header="Authorization", auth_value=value)
    text = '{"message": "bad key ' + " and ".join(shown) + '"}'
    receiver.rule = lambda got: Reply(status, text, headers={"X-Echo": got.headers["authorization"]})
    accept()
    drain()
    (attempt,) = Attempt.objects.all()
    assert receiver.got[0].headers["authorization"] == value
    kept = f"{attempt.response_headers} {attempt.response_body} {attempt.error} {Delivery.objects.get().last_error}"
    kept += " ".join(DeadLetter.objects.values_list("error_message", flat=True)) + caplog.text
    assert attempt.response_headers["x-echo"] == "[redacted]"
    assert "en+123456789" not in kept
    assert kept.count("[redacted]") > len(shown)


def test_a_secret_in_n8n_s_api_key_or_a_key_of_ours_is_not_kept(workflow, receiver, accept, drain, settings):
    settings.N8N_API_KEY = "n8n-api-key-123"
    workflow()
    ours = "bsk_" + 43 * "x"
    receiver.always(200, f"used n8n-api-key-123 and {ours}")
    accept()
    drain()
    assert Attempt.objects.get().response_body == "used [redacted] and [redacted]"


def test_a_secret_in_what_n8n_reports_is_not_kept(workflow, receiver, accept, drain):
    workflow(auth_value=f"Bearer {TOKEN}")
    made = accept()
    drain()
    failure = Failure("wf1", "Echo", "execution_failed", f"HTTP: 401 for {TOKEN}", execution_id="7")
    failure_reports.ingest(
        incoming=failure_reports.IncomingFailure(failure, report=f'{{"a": "{TOKEN}"}}', delivery_id=made.pk),
        now=clock.now(),
    )
    report = FailureReport.objects.get()
    assert (report.error_message, report.report) == ("HTTP: 401 for [redacted]", '{"a": "[redacted]"}')


def test_a_secret_in_a_workflow_s_own_report_is_not_kept(workflow, receiver, accept, drain):
    workflow(auth_value=f"Bearer {TOKEN}", completion="callback", max_retries=0)
    made = accept()
    drain()
    callbacks.report(
        delivery_id=made.pk, completion=Completion(succeeded=False, error=f"401 for {TOKEN}"), now=clock.now()
    )
    assert "401 for [redacted]" in Delivery.objects.get().last_error
