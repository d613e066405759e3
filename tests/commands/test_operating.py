"""The commands by which operators do what the console does."""

import io
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from reliability.core import clock
from reliability.lanes import breakers
from reliability.models import ApiKey, AuditEntry, Breaker, BreakerState, StripeEndpoint, Workflow
from scheduling.models import CronJob, Run

pytestmark = pytest.mark.django_db


def run(name: str, *arguments: str) -> str:
    said = io.StringIO()
    call_command(name, *arguments, stdout=said, stderr=said)
    return said.getvalue()


def test_deliveries_are_sent_now_and_cancelled(workflow, accept):
    workflow(paused=True)
    later = accept(deliver_at=clock.now() + timedelta(hours=5))
    assert "due now" in run("send_now", str(later.pk), "--reason", "in a hurry")
    later.refresh_from_db()
    assert later.due_at <= clock.now()
    assert "cancelled" in run("cancel", str(later.pk), "--reason", "a mistake")
    later.refresh_from_db()
    assert later.state == "cancelled"
    entries = AuditEntry.objects.order_by("id").values_list("action", "reason")
    assert list(entries) == [("send_now", "in a hurry"), ("cancel", "a mistake")]


@pytest.mark.parametrize("name", ["cancel", "send_now"])
def test_one_that_cannot_does_not_keep_the_others_from_it(workflow, accept, name):
    workflow(paused=True)
    made = accept()
    with pytest.raises(CommandError, match="2 of 3"):
        run(name, str(uuid4()), "nonsense", str(made.pk))
    assert AuditEntry.objects.get().target_id == str(made.pk)


def test_workflows_are_paused_with_an_end_and_resumed(workflow):
    workflow()
    end = (clock.now() + timedelta(hours=2)).replace(microsecond=0)
    run("pause", "echo", "--until", end.isoformat(), "--reason", "release")
    made = Workflow.objects.get()
    assert (made.paused, made.paused_reason, made.paused_until) == (True, "release", end)
    run("resume", "echo")
    assert not Workflow.objects.get().paused


@pytest.mark.parametrize("until", ["2001-01-01T00:00Z", "soon", "2030-01-01T00:00", "9999-12-31T23:59-12:00"])
def test_an_end_that_makes_no_sense_is_refused(workflow, until):
    workflow()
    with pytest.raises(CommandError, match="--until"):
        run("pause", "echo", "--until", until)
    assert not Workflow.objects.get().paused


def test_an_unknown_name_is_refused():
    for name in ("pause", "resume"):
        with pytest.raises(CommandError, match="1 of 1"):
            run(name, "none")
    with pytest.raises(CommandError, match="1 of 1"):
        run("cron_job", "run", "none")


def test_breakers_are_held_open_with_an_end(workflow, accept, lane_breaker):
    workflow()
    accept()
    end = (clock.now() + timedelta(hours=2)).replace(microsecond=0)
    assert "would be" in run("force_open_breaker", "--workflow", "echo", "--dry-run")
    assert lane_breaker().state == BreakerState.CLOSED
    run("force_open_breaker", "--workflow", "echo", "--until", end.isoformat(), "--reason", "upgrade")
    found = lane_breaker()
    assert (found.state, found.reason, found.forced_until) == (BreakerState.FORCED_OPEN, "upgrade", end)
    run("reset_breaker", "--all")
    assert lane_breaker().state == BreakerState.CLOSED


def test_the_instances_breaker_is_held_open_though_nothing_was_sent_yet(db):
    run("force_open_breaker", "--instance")
    assert breakers.instance().state == BreakerState.FORCED_OPEN
    run("reset_breaker", "--instance")
    assert breakers.instance().state == BreakerState.CLOSED


def test_no_breaker_is_meant_by_nothing(workflow, accept):
    workflow()
    accept()
    for name in ("force_open_breaker", "reset_breaker"):
        with pytest.raises(CommandError, match=r"No breakers selected\. Give IDs, --workflow, --tenant") as refusal:
            run(name, "--reason", "x")
        assert ("--all" in str(refusal.value)) is (name == "reset_breaker")
    with pytest.raises(CommandError, match="No such breaker"):
        run("force_open_breaker", "--workflow", "none")
    assert not Breaker.objects.exclude(state="closed")


def test_cron_jobs_are_run_disabled_and_enabled(workflow):
    job = CronJob.objects.create(slug="mine", name="Mine")
    job.workflows.add(workflow(paused=True))
    assert "started" in run("cron_job", "run", "mine", "--reason", "now")
    assert Run.objects.get().job == job
    run("cron_job", "disable", "mine", "--reason", "broken")
    assert CronJob.objects.get(slug="mine").disabled_reason == "broken"
    with pytest.raises(CommandError):
        run("cron_job", "run", "mine")
    run("cron_job", "enable", "mine")
    assert CronJob.objects.get(slug="mine").enabled


def test_a_key_is_revoked_by_its_prefix(db):
    key, _ = ApiKey.issue(name="a")
    run("revoke_api_key", key.prefix, "--reason", "leaked")
    key.refresh_from_db()
    assert key.revoked_at is not None
    with pytest.raises(CommandError):
        run("revoke_api_key", "bsk_nothing")


def typed(monkeypatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_workflows_secret_is_read_and_taken_away(workflow, monkeypatch):
    workflow()
    typed(monkeypatch, "s3cret\n")
    assert run("workflow_secret", "echo", "--auth-value", "--reason", "set up") == "echo: saved\n"
    assert Workflow.objects.get().auth_value == "s3cret"
    assert run("workflow_secret", "echo", "--auth-value", "--remove") == "echo: removed\n"
    assert Workflow.objects.get().auth_value == ""
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"set_workflow_secrets"}
    refused = [("echo", "--signing-secret", "nonsense"), ("echo", "--auth-value", ""), ("none", "--auth-value", "x")]
    for *words, text in refused:
        typed(monkeypatch, text)
        with pytest.raises(CommandError):
            run("workflow_secret", *words)


def test_a_stripe_endpoint_is_changed(db, monkeypatch):
    run("stripe_endpoint", "shop", "--create", "--mode", "live")
    out = run("stripe_endpoint", "shop", "--change", "--tenant", "acme", "--turn", "off")
    assert "tenant acme  mode live" in out
    assert "(turned off)" in out
    typed(monkeypatch, "rk_1\n")
    run("stripe_endpoint", "shop", "--api-key")
    assert StripeEndpoint.objects.get().api_key == "rk_1"
    with pytest.raises(CommandError, match="--create or --change"):
        run("stripe_endpoint", "shop", "--mode", "any")


def test_a_key_has_an_end(db):
    run("create_api_key", "--name", "shop", "--until", "2999-01-01T00:00Z")
    assert ApiKey.objects.get().expires_at.year == 2999
    for words in (["--until", "2001-01-01T00:00Z"], ["--tenant", "No Slug"]):
        with pytest.raises(CommandError):
            run("create_api_key", "--name", "shop", *words)
