import copy
import json
from uuid import UUID

import pytest

from reliability.errors import InvalidInput
from reliability.policies import failure

from ..support.bodies import TRIGGER, crashed, failed

DELIVERY = "018f0000-0000-7000-8000-000000000000"
HEADERS = {"x-backstop-delivery": DELIVERY, "x-backstop-attempt": "3"}


def test_an_execution_that_failed():
    read = failure.read_body(failed("2", retryOf="1"))
    assert (read.execution_id, read.retry_of, read.workflow_id, read.workflow_name) == ("2", "1", "wf1", "Echo")
    assert (read.code, read.status, read.node) == ("execution_failed", "error", "Code")
    assert read.message == "Code: boom [line 1]"
    assert read.execution_url == "https://n8n.example.com/workflow/wf1/executions/2"


def test_an_execution_that_crashed_has_no_message():
    read = failure.read_body(crashed())
    assert (read.code, read.status, read.message) == ("execution_crashed", "crashed", "WorkflowCrashedError")


def test_a_trigger_that_could_not_start():
    read = failure.read_body(TRIGGER)
    assert (read.code, read.execution_id, read.mode) == ("trigger_failed", "", "internal")
    assert read.message == "Schedule Trigger: not a cron expression"


def test_an_execution_that_was_not_saved_has_no_id():
    assert failure.read_body(failed(None)).execution_id == ""
    assert failure.read_body(failed(7)).execution_id == "7"


@pytest.mark.parametrize("body", [{}, {"workflow": {}}, {"execution": None, "trigger": None}, {"body": []}], ids=str)
def test_what_holds_nothing_is_refused(body):
    with pytest.raises(InvalidInput):
        failure.read_body(body)


@pytest.mark.parametrize(
    ("body", "workflow", "code", "message"),
    [
        ({"workflow": {"id": "1"}}, ("1", ""), "execution_failed", "n8n gave no reason."),
        ({"workflow": "Echo", "execution": {}}, ("", "Echo"), "execution_failed", "n8n gave no reason."),
        ({"workflow": {"id": {}, "name": 5}, "execution": "down"}, ("", ""), "execution_failed", "down"),
        ({"workflow": {"id": "1"}, "trigger": "down"}, ("1", ""), "trigger_failed", "down"),
        ({"execution": {"error": "down"}}, ("", ""), "execution_failed", "down"),
        ({"execution": {"error": ["down"]}}, ("", ""), "execution_failed", "n8n gave no reason."),
        ({"body": "text"}, ("", ""), "execution_failed", "n8n gave no reason."),
    ],
    ids=str,
)
def test_what_is_missing_or_unusable_loses_nothing_else(body, workflow, code, message):
    read = failure.read_body(body)
    assert ((read.workflow_id, read.workflow_name), read.code, read.message) == (workflow, code, message)
    assert read.execution_id == ""


@pytest.mark.parametrize(
    "unusable",
    ["", " ", None, True, 5.0, [], {}, "2" * 201, "a\nb", "a�b", "undefined", "null", "NaN", "[object Object]"],
    ids=str,
)
def test_an_id_that_is_unusable_is_none(unusable):
    assert failure.identifier(unusable) == ""


@pytest.mark.parametrize(("value", "found"), [("2", "2"), (7, "7"), (" 231 ", "231"), ("x" * 200, "x" * 200)])
def test_an_id_is_text_or_a_number(value, found):
    assert failure.identifier(value) == found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("down", "down"),
        ({"message": "down", "name": "X"}, "down"),
        ({"code": 5}, '{"code":5}'),
        (["a", 1], '["a",1]'),
        (5, "5"),
        (None, ""),
        ("x" * 20_000, "x" * 10_000),
        ("a\x00b", "a�b"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_error_is_text_whatever_it_is(value, said):
    assert failure.error_text(value) == said


@pytest.mark.parametrize(
    ("node", "error", "said"),
    [
        ("Code", {"message": "boom"}, "Code: boom"),
        ("", {"message": "boom"}, "boom"),
        ("Code", "plain text", "Code: plain text"),
        ("Code", {"message": " ", "description": "down"}, "Code: down"),
        ("Code", {"message": 5, "name": "NodeApiError"}, "Code: NodeApiError"),
        ("", None, "n8n gave no reason."),
        ("", {"message": "x" * 20_000}, "x" * 10_000),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_words_of_an_error(node, error, said):
    assert failure.describe(node, error) == said


@pytest.mark.parametrize("address", ["javascript:alert(1)", "/relative", 5, None, "https://" + "a" * 3000])
def test_only_a_safe_link_is_kept(address):
    assert failure.read_body(failed("2", url=address)).execution_url == ""


def test_a_large_report_is_cut_until_it_fits():
    body = failed("2")
    assert json.loads(failure.shorten(body)) == body
    large = failed("2", message="m" * 300_000)
    cut = json.loads(failure.shorten(large))
    assert cut["execution"]["error"]["message"].endswith("(cut here)")
    assert cut["execution"]["lastNodeExecuted"] == "Code"
    broad = {**failed("2"), "more": [{"n": n} for n in range(100_000)]}
    bare = json.loads(failure.shorten(broad))
    assert bare["execution"]["id"] == "2"
    assert bare["execution"]["error"]["message"] == "boom [line 1]"
    assert "more" not in bare
    assert len(failure.shorten(broad)) < failure.REPORT_LENGTH


def test_what_authenticated_the_failed_request_is_not_kept():
    request = {
        "headers": {"Authorization": "Bearer v3ndor", "X-Api-Key": "v3ndor", "accept": "*/*"},
        "auth": [{"password": "v3ndor"}],
    }
    kept = failure.shorten(failed("2", error={"message": "down", "context": {"request": request}}))
    assert "v3ndor" not in kept
    assert json.loads(kept)["execution"]["error"]["context"]["request"]["headers"]["accept"] == "*/*"


def execution(*, runs=None, stack=(), trigger="Webhook"):
    nodes = [{"name": "Webhook", "type": "n8n-nodes-base.webhook"}, {"name": "Code", "type": "n8n-nodes-base.code"}]
    data = {"nodeExecutionStack": list(stack), "runtimeData": {"triggerNode": {"name": trigger}}}
    return {"data": {"resultData": {"runData": runs or {}}, "executionData": data}, "workflowData": {"nodes": nodes}}


def output(headers):
    return {"data": {"main": [[{"json": {"headers": headers, "body": {}}}]]}}


RECOVERED = {"data": {"main": [[{"json": {"isArtificialRecoveredEventItem": True}}]]}}
WAITING = {"node": {"name": "Webhook", "type": "n8n-nodes-base.webhook"}, **output(HEADERS)}
OTHER = {"node": {"name": "Code", "type": "n8n-nodes-base.code"}, **output(HEADERS)}


@pytest.mark.parametrize(
    ("found", "attempt"),
    [
        (execution(runs={"Webhook": [output(HEADERS)]}), 3),
        (execution(runs={"Webhook": [output({"X-Backstop-Delivery": DELIVERY})]}), None),
        (execution(runs={"Webhook": [output(HEADERS)]}, trigger="Another"), 3),
        (execution(runs={"Webhook": [RECOVERED]}, stack=[WAITING]), 3),
        (execution(stack=[OTHER, WAITING]), 3),
        (execution(runs={"Webhook": [output({**HEADERS, "x-backstop-attempt": "-1"})]}), None),
    ],
)
def test_the_delivery_is_found_in_the_webhooks_request(found, attempt):
    assert failure.origin_of(found) == failure.Origin(UUID(DELIVERY), attempt)


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"data": None},
        {"dataTooLargeToDisplay": True},
        execution(),
        execution(stack=[OTHER]),
        execution(runs={"Webhook": []}),
        execution(runs={"Webhook": [{"data": {"main": [[]]}}]}),
        execution(runs={"Webhook": [{"data": {"main": None}}]}),
        execution(runs={"Webhook": [output({"host": "example.com"})]}),
        execution(runs={"Webhook": [output({"x-backstop-delivery": "no-uuid"})]}),
        execution(runs={"Webhook": ["text"]}, stack=["text", {"node": None}]),
    ],
    ids=range(11),
)
def test_without_our_header_there_is_no_delivery(found):
    before = copy.deepcopy(found)
    assert failure.origin_of(found) is None
    assert found == before
