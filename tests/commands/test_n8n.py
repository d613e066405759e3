"""`n8n_reconcile` and `n8n_sync` against a server that speaks n8n's shapes."""

import io

import pytest
from django.core.management import CommandError, call_command

from reliability.bulk.replay_one import replay_one
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.models import AuditEntry, DeadLetter, Delivery, ExecutionRetry, FailureReport, Workflow
from reliability.n8n import delivery_lookup

from ..support.n8n_api import KEY, FakeN8n, stamp
from ..support.n8n_api import workflow as n8n_workflow

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def n8n(settings):
    made = FakeN8n()
    settings.N8N_API_URL, settings.N8N_API_KEY = made.url, KEY
    yield made
    made.stop()


def run(*words: str) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()[1:-1]]


def letters() -> list[tuple[str, str, str]]:
    return list(DeadLetter.objects.order_by("id").values_list("execution_id", "error_code", "status"))


@pytest.fixture
def echo(workflow) -> Workflow:
    return workflow("echo", name="Echo")


def test_what_cannot_be_stored_of_an_execution_is_replaced(n8n, echo):
    n8n.workflows = [n8n_workflow(name="Echo\x00")]
    found = n8n.add("3", "error", message="bo\x00om \ud800", mode="web\x00hook")
    found["data"]["resultData"]["lastNodeExecuted"] = "Co\x00de"
    assert [line[-1] for line in rows(run("n8n_reconcile", "--all"))] == ["buried"]
    letter, report = DeadLetter.objects.get(), FailureReport.objects.get()
    assert letter.error_message == "Co\ufffdde: bo\ufffdom \ufffd"
    assert (report.node, report.mode, report.n8n_workflow_name) == ("Co\ufffdde", "web\ufffdhook", "Echo\ufffd")


def test_what_crashed_failed_or_hangs_without_a_report_is_buried_once(n8n, echo):
    n8n.add("1", "success")
    n8n.add("2", "crashed")
    n8n.add("3", "error")
    n8n.add("4", "running", startedAt=stamp(7200))
    n8n.add("5", "running")
    n8n.add("6", "error", mode="manual")
    n8n.add("7", "error", startedAt=stamp(80 * 3600))
    assert rows(run("n8n_reconcile", "--dry-run")) == [
        ["2", "Echo", "crashed", "missing"],
        ["3", "Echo", "error", "missing"],
        ["4", "Echo", "hung", "missing"],
    ]
    assert not FailureReport.objects.exists()
    assert not AuditEntry.objects.exists()
    assert [line[3] for line in rows(run("n8n_reconcile", "--reason", "after the outage"))] == ["buried"] * 3
    assert letters() == [
        ("2", "execution_crashed", "dead"),
        ("3", "execution_failed", "dead"),
        ("4", "execution_hung", "dead"),
    ]
    letter = DeadLetter.objects.get(execution_id="3")
    assert letter.error_message == "Code: boom"
    assert letter.execution_url == f"{n8n.url}/workflow/wf1/executions/3"
    assert letter.document["workflow"] == {"id": "wf1", "name": "Echo"}
    assert run("n8n_reconcile") == "0 executions processed.\n"
    entry = AuditEntry.objects.filter(action="n8n_reconcile").last()
    assert (entry.count, entry.reason) == (3, "after the outage")
    assert run("n8n_reconcile", "--hours", "100").splitlines()[1].split()[0] == "7"


def test_what_hung_and_ended_well_recovers_and_what_failed_says_so(n8n, echo):
    n8n.add("4", "running", startedAt=stamp(7200))
    n8n.add("5", "running", startedAt=stamp(7200))
    run("n8n_reconcile")
    n8n.executions["4"]["status"] = "success"
    n8n.add("5", "error", startedAt=stamp(7200))
    assert {line[0]: line[-1] for line in rows(run("n8n_reconcile"))} == {"4": "recovered", "5": "buried"}
    assert sorted(letters()) == [("4", "execution_hung", "recovered"), ("5", "execution_failed", "dead")]


def test_a_delivery_behind_it_is_joined_and_recovers_with_it(n8n, workflow, accept, receiver, drain):
    workflow()
    made = accept(tenant="acme")
    drain()
    headers = {"x-backstop-delivery": str(made.pk), "x-backstop-attempt": "1"}
    n8n.add("4", "running", startedAt=stamp(7200), headers=headers)
    assert rows(run("n8n_reconcile"))[0][3] == "joined"
    letter = DeadLetter.objects.get()
    assert (letter.delivery_id, letter.source, letter.error_code) == (made.pk, "delivery", "execution_hung")
    n8n.executions["4"]["status"] = "success"
    run("n8n_reconcile")
    made.refresh_from_db()
    letter.refresh_from_db()
    assert (made.state, letter.status) == ("delivered", "recovered")


def test_workflows_that_are_not_ours_are_left_alone_unless_asked_for(n8n, workflow):
    n8n.add("2", "crashed")
    assert run("n8n_reconcile") == "0 executions processed.\n"
    assert rows(run("n8n_reconcile", "--all")) == [["2", "Echo", "crashed", "buried"]]
    assert Workflow.objects.get().paused


def test_what_was_made_good_in_n8n_recovers(n8n, echo):
    n8n.add("2", "error")
    n8n.add("3", "error", retrySuccessId="9")
    run("n8n_reconcile")
    assert [one[0] for one in letters()] == ["2"]
    n8n.executions["2"]["retrySuccessId"] = "10"
    assert rows(run("n8n_reconcile"))[0][-1] == "recovered"
    assert letters() == [("2", "execution_failed", "recovered")]


def test_what_lost_its_job_is_woken(n8n, echo):
    from procrastinate.contrib.django.models import ProcrastinateJob

    n8n.add("2", "error")
    run("n8n_reconcile")
    replay_one(dead_letter_id=DeadLetter.objects.get().pk, actor=Actor("t"), now=clock.now())
    retry = ExecutionRetry.objects.get()
    ExecutionRetry.objects.update(state="asked", due_at=retry.due_at - delivery_lookup.MAX_AGE)
    waiting = ProcrastinateJob.objects.filter(task_name="retry_execution", args__retry_id=str(retry.pk), status="todo")
    assert waiting.count() == 1
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
    run("n8n_reconcile")
    assert waiting.count() == 1


def test_more_than_one_page(n8n, echo):
    for number in range(1, 231):
        n8n.add(str(number), "crashed")
    assert len(rows(run("n8n_reconcile", "--dry-run"))) == 230


@pytest.mark.parametrize(
    ("scope", "said"),
    [("execution:list", "execution:list"), ("workflow:list", "workflow:list"), ("execution:read", "execution:read")],
)
def test_a_missing_scope_is_named(n8n, echo, scope, said):
    n8n.add("2", "crashed")
    n8n.scopes.discard(scope)
    with pytest.raises(CommandError, match=said):
        run("n8n_reconcile")


def test_without_a_key_it_says_so(settings, db):
    settings.N8N_API_KEY = ""
    for command in ("n8n_reconcile", "n8n_sync"):
        with pytest.raises(CommandError, match="N8N_API_KEY"):
            run(command)


@pytest.mark.parametrize("words", [("--hours", "0"), ("--hours", "nan"), ("--hung-after", "-1"), ("--hours", "inf")])
def test_senseless_windows_are_refused(n8n, words):
    with pytest.raises(CommandError):
        run("n8n_reconcile", *words)
    assert n8n.asked == []


def hook(path: str, **values):
    kind = "n8n-nodes-base.webhook"
    parameters = {"path": path, "httpMethod": "POST", "responseMode": "lastNode", **values}
    return {"name": path, "type": kind, "parameters": parameters}


def state_of(text: str, slug: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(slug + " "))


def test_sync_offers_what_takes_a_post(n8n, workflow):
    n8n.workflows = [
        n8n_workflow("w1", "Gap Fill", nodes=[hook("gap-fill", authentication="headerAuth")]),
        n8n_workflow("w2", "Draft", nodes=[hook("draft", responseMode="onReceived")], active=False, activeVersion=None),
        n8n_workflow("w3", "Two", nodes=[hook("two/a"), hook("two/b", httpMethod=["GET", "POST"])]),
        n8n_workflow("w4", "Reads", nodes=[hook("reads", httpMethod="GET")]),
        n8n_workflow("w5", "Old", nodes=[hook("old")], isArchived=True),
        n8n_workflow("w6", "Off", nodes=[{**hook("off"), "disabled": True}]),
        n8n_workflow("w7", "By user", nodes=[hook("users/:id")]),
        n8n_workflow("w8", "Timer", nodes=[{"type": "n8n-nodes-base.scheduleTrigger", "parameters": {}}]),
    ]
    shown = run("n8n_sync", "--all", "--dry-run")
    assert not Workflow.objects.exists()
    slugs = [line.split()[0] for line in shown.splitlines()[1:]]
    assert slugs == ["gap-fill", "draft", "two-a", "two-b", "users-id"]
    assert "headerAuth" in state_of(shown, "gap-fill")
    assert "not published" in state_of(shown, "draft")
    assert "answers before its work is done" in state_of(shown, "draft")
    assert "unfit" in state_of(shown, "users-id")
    assert run("n8n_sync", "--all").endswith("gap-fill: created\ndraft: created\ntwo-a: created\ntwo-b: created\n")
    assert Workflow.objects.get(slug="two-a").path == "two/a"
    assert Workflow.objects.get(slug="gap-fill").n8n_workflow_id == "w1"
    again = run("n8n_sync", "--all")
    assert again.count(" known") == 4
    assert "created" not in again
    with pytest.raises(CommandError, match="parameters"):
        run("n8n_sync", "--apply", "users-id")


def test_sync_takes_a_path_so_that_n8n_reads_it_as_its_own(n8n, settings):
    """n8n decodes what it is sent once; what its node says is never encoded."""
    settings.N8N_WEBHOOK_URL = "http://n8n/webhook"
    n8n.workflows = [
        n8n_workflow("w1", "Green", nodes=[hook("grün")]),
        n8n_workflow("w2", "Space", nodes=[hook("a b%20c")]),
        n8n_workflow("w3", "Japan", nodes=[hook("日本")]),
        n8n_workflow("w4", "Up", nodes=[hook("a/../b")]),
    ]
    shown = run("n8n_sync", "--all")
    assert "its path makes no slug" in state_of(shown, "日本")
    assert "unfit" in state_of(shown, "a-b")
    sent = {one.name: one.url.removeprefix("http://n8n/webhook/") for one in Workflow.objects.all()}
    assert sent == {"Green": "gr%C3%BCn", "Space": "a%20b%2520c"}
    Workflow.objects.filter(name="Green").update(path="gr%C3%BCn")  # the same path, written otherwise
    assert run("n8n_sync", "--all").count(" known") == 2


def test_sync_keeps_the_policy_of_what_is_known(n8n, workflow):
    workflow("echo", name="Another name", max_retries=7, stripe_events=["invoice.*"], paused=True)
    assert "different" in state_of(run("n8n_sync"), "echo")
    assert "echo: updated" in run("n8n_sync", "--apply", "echo")
    found = Workflow.objects.get()
    assert (found.name, found.max_retries, found.stripe_events) == ("Echo", 7, ["invoice.*"])
    assert (found.paused, found.n8n_workflow_id) == (True, "wf1")
    assert "known" in state_of(run("n8n_sync"), "echo")


def test_sync_gives_a_path_to_what_was_only_reported(n8n, report_of):
    report_of("2")
    found = Workflow.objects.get()
    assert (found.paused, found.path) == (True, "something-else")
    n8n.workflows = [n8n_workflow("wf1", "Something else", nodes=[hook("real/path")])]
    run("n8n_sync", "--apply", "something-else")
    found.refresh_from_db()
    assert (found.paused, found.paused_reason, found.path) == (False, "", "real/path")


@pytest.fixture
def report_of(n8n):
    def make(number: str) -> None:
        n8n.workflows = [n8n_workflow("wf1", "Something else")]
        n8n.add(number)
        run("n8n_reconcile", "--all")

    return make


@pytest.mark.parametrize("words", [("--apply", "nope"), ("--apply", "echo", "--all")])
def test_what_sync_cannot_do_is_refused(n8n, words):
    with pytest.raises(CommandError):
        run("n8n_sync", *words)
    assert not Workflow.objects.exists()


def test_replay_goes_through_n8n_by_command(n8n, echo):
    n8n.add("2", "error")
    run("n8n_reconcile")
    letter = DeadLetter.objects.get()
    with pytest.raises(CommandError):
        run("replay", str(letter.pk), "--via", "webhook")
    with pytest.raises(CommandError):
        run("replay", "--all", "--via", "execution")
    assert "n8n execution retry" in run("replay", str(letter.pk), "--as-it-was")
    assert ExecutionRetry.objects.get().load_workflow is False
    assert not Delivery.objects.exists()
