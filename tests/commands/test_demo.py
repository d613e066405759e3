"""`manage.py demo`: a week that holds together, is never sent, and goes without a trace."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.delivery import control
from reliability.management import demo
from reliability.management.commands import up
from reliability.models import (
    AuditEntry,
    Breaker,
    Delivery,
    Lane,
    Workflow,
)
from scheduling.models import CronJob

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 12, 14, 30, tzinfo=UTC)


def ours() -> list:
    return [model for label in ("reliability", "scheduling") for model in apps.get_app_config(label).get_models()]


def counts() -> dict[str, int]:
    return {model.__name__: model.objects.count() for model in ours()}


def test_it_goes_without_a_trace_and_takes_nothing_else(workflow, accept):
    workflow("demo-mine", paused=True)
    accept(workflow="demo-mine", tenant="demo-acme")
    AuditEntry.objects.create(at=NOW, actor="user:demo-ada", action="pause")
    before = counts()
    demo.fill(now=clock.now(), force=True)
    assert counts() != before
    # Somebody plays with it meanwhile.
    control.resume(
        workflow_id=Workflow.objects.get(slug="demo-legacy-export").pk, actor=Actor("user:x"), now=clock.now()
    )
    accept(workflow="demo-order-sync", tenant="another")
    played = AuditEntry.objects.filter(actor="user:x").count()
    call_command("demo", "--remove", stdout=io.StringIO())
    before["AuditEntry"] += played
    assert counts() == before
    with connection.cursor() as cursor:
        cursor.execute("SELECT queueing_lock FROM procrastinate_jobs")
        lanes = {str(pk) for pk in Lane.objects.values_list("pk", flat=True)}
        assert {lock.rpartition(":")[2] for (lock,) in cursor.fetchall()} <= lanes


@pytest.mark.django_db(transaction=True)
def test_nothing_of_it_is_ever_sent_even_if_somebody_lets_it_go(receiver, drain):
    demo.fill(now=clock.now())
    Workflow.objects.update(paused=False)
    Breaker.objects.update(state="closed")
    Delivery.objects.filter(state="pending").update(due_at=clock.now() - timedelta(hours=1))
    drain()
    assert not receiver.got
    assert Delivery.objects.filter(state="pending").count() > 30


def test_it_is_refused_beside_other_data_unless_forced(workflow):
    workflow("mine")
    with pytest.raises(CommandError, match="other data"):
        call_command("demo")
    call_command("demo", "--force", stdout=io.StringIO())
    with pytest.raises(CommandError, match="exists already"):
        call_command("demo", "--force")


def test_a_job_that_somebody_made_is_other_data(db):
    assert not demo.holds_other()
    CronJob.objects.create(slug="mine", name="Mine")
    assert demo.holds_other()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "filled"), [("y\n", True), ("\n", False), ("n\n", False), ("", False)])
def test_a_new_installation_is_asked_once_at_a_terminal(db, monkeypatch, answer, filled):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stdout", Terminal())
    up.Command()._offer_demo()
    assert demo.is_present() is filled


def test_without_a_terminal_nobody_waits_for_an_answer(db, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    said = io.StringIO()
    up.Command(stdout=said)._offer_demo()
    assert "manage.py demo" in said.getvalue()
    assert not demo.is_present()
