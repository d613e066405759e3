"""The console's screens of what n8n reports, and its retry."""

import pytest

from reliability.core import clock
from reliability.models import DeadLetter, Execution, ExecutionRetry, FailureReport
from reliability.n8n import failure_reports
from reliability.n8n.failure_reports import IncomingFailure
from reliability.policies import failure

from ..support.bodies import failed
from .test_console import change, signed_in

pytestmark = pytest.mark.django_db
BASE = "/admin/reliability/"


@pytest.fixture
def letter(settings) -> DeadLetter:
    settings.N8N_API_KEY = ""
    body = failed("4711", message="</script><img src=x onerror=alert(1)>")
    failure_reports.ingest(incoming=IncomingFailure(failure.read_body(body), failure.shorten(body)), now=clock.now())
    settings.N8N_API_KEY = "key"
    return DeadLetter.objects.get()


def test_what_n8n_reported_is_found_and_shown_with_the_way_there(letter):
    client = signed_in("viewers")
    there = f'href="{letter.execution_url}"'
    for model in (FailureReport, Execution):
        where = f"{BASE}{model._meta.model_name}/"
        row = model.objects.get()
        for term in ("4711", str(row.pk)):
            assert list(client.get(where, {"q": term}).context["cl"].result_list) == [row]
        assert not client.get(where, {"q": "4712"}).context["cl"].result_list
    for shown in (letter, FailureReport.objects.get()):
        page = client.get(change(type(shown), shown.pk)).content.decode()
        assert there in page
        assert "<img src=x" not in page


def test_n8n_is_asked_to_retry_with_a_reason(letter):
    client = signed_in("operators")
    where = change(DeadLetter, letter.pk, "retry")
    assert "Use the current workflow" in client.get(where).content.decode()
    client.post(where, {"confirmed": "1", "reason": "fixed"})
    made = ExecutionRetry.objects.get()
    assert (made.execution_id, made.load_workflow, made.dead_letter_id) == ("4711", False, letter.pk)
    assert signed_in("viewers").get(where).status_code == 403


def test_replay_takes_n8ns_way_for_what_n8n_reported(letter):
    client = signed_in("operators")
    client.post(change(DeadLetter, letter.pk, "replay"), {"confirmed": "1", "reason": "fixed"})
    assert ExecutionRetry.objects.get().load_workflow
    letter.refresh_from_db()
    assert letter.status == "replaying"


def test_nobody_writes_them_by_hand(letter):
    client = signed_in()
    for model in (FailureReport, Execution, ExecutionRetry):
        assert client.get(f"{BASE}{model._meta.model_name}/add/").status_code == 403
