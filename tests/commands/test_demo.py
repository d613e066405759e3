"""`manage.py demo`: a week that holds together, is never sent, and goes without a trace."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Count, F, Q, Sum

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.delivery import control
from reliability.management import demo
from reliability.management.commands import up
from reliability.models import (
    Attempt,
    AuditEntry,
    Breaker,
    DeadLetter,
    DeathRollup,
    Delivery,
    FailureGroup,
    Lane,
    Rollup,
    StripeEvent,
    Workflow,
)
from reliability.models.ids import is_demo, uuid7
from reliability.n8n import execution_retry
from reliability.stats import overview
from scheduling.models import CronJob, Run

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 12, 14, 30, tzinfo=UTC)


def ours() -> list:
    return [model for label in ("reliability", "scheduling") for model in apps.get_app_config(label).get_models()]


def counts() -> dict[str, int]:
    return {model.__name__: model.objects.count() for model in ours()}


@pytest.fixture
def week():
    return demo.fill(now=NOW)


def test_the_week_is_believable_and_holds_together(week):
    assert week[Delivery] > 2000
    assert Attempt.objects.count() >= Delivery.objects.filter(state="delivered").count()
    assert (
        not Delivery.objects.annotate(n=Count("attempts"))
        .exclude(n=F("attempt_count"))
        .filter(~Q(state="awaiting_callback"))
    )
    assert (
        Delivery.objects.filter(state="dead").exclude(source="replay").count()
        == DeadLetter.objects.filter(delivery__isnull=False, delivery__state="dead").count()
    )
    assert {"dead", "recovered", "purged", "archived"} <= set(DeadLetter.objects.values_list("status", flat=True))
    assert len(set(DeadLetter.objects.values_list("reason", flat=True))) >= 6
    assert not DeadLetter.objects.filter(Q(reason="") | Q(fingerprint=""))
    assert Breaker.objects.filter(state="open").count() == 2
    assert Delivery.objects.filter(lane__breaker__state="open", state="pending").count() >= 31
    assert StripeEvent.objects.filter(repeats__isnull=False).exists()
    assert not Attempt.objects.filter(started_at__gt=NOW)
    assert not Delivery.objects.filter(Q(created_at__gt=NOW) | Q(finished_at__gt=NOW))


def test_the_charts_add_up_to_the_rows(week):
    for grain in ("minute", "hour"):
        added = Rollup.objects.filter(grain=grain).aggregate(
            *(Sum(name) for name in ("delivered", "dead", "attempts", "failures"))
        )
        assert added["delivered__sum"] == Delivery.objects.filter(state="delivered").count()
        assert added["dead__sum"] == Delivery.objects.filter(state="dead").count()
        assert added["attempts__sum"] == Attempt.objects.count()
        assert added["failures__sum"] == Attempt.objects.exclude(result="delivered").count()
        latencies = Rollup.objects.filter(grain=grain).values_list("delivered", "latency")
        assert all(sum(buckets) == delivered for delivered, buckets in latencies)
        reasons = DeathRollup.objects.filter(grain=grain).values_list("reason").annotate(n=Sum("count"))
        assert dict(reasons) == dict(DeadLetter.objects.values_list("reason").annotate(n=Count("pk")))


def test_the_failure_groups_are_those_of_the_dead_letters(week):
    groups = FailureGroup.objects.filter(dead__gt=0).values_list("workflow__slug", "fingerprint", "dead")
    letters = DeadLetter.objects.dead().values_list("lane__workflow__slug", "fingerprint").annotate(n=Count("pk"))
    assert {(slug, kind): n for slug, kind, n in groups} == {(slug, kind): n for slug, kind, n in letters}


def test_the_same_seed_makes_the_same_week(week):
    first = list(Delivery.objects.order_by("pk").values_list("pk", "idempotency_key", "state", "payload"))
    demo.remove()
    demo.fill(now=NOW)
    assert list(Delivery.objects.order_by("pk").values_list("pk", "idempotency_key", "state", "payload")) == first
    demo.remove()
    demo.fill(now=NOW, seed=8)
    assert list(Delivery.objects.order_by("pk").values_list("pk", "idempotency_key", "state", "payload")) != first


def test_it_is_marked_throughout(week):
    for model in (Workflow, Delivery, DeadLetter, Breaker, StripeEvent, Run):
        assert all(is_demo(pk) for pk in model.objects.values_list("pk", flat=True)), model
    assert not Workflow.objects.exclude(slug__startswith="demo-").exists()
    assert not Lane.objects.exclude(tenant__startswith="demo-").exists()
    assert not is_demo(uuid7())


def test_the_overview_says_that_it_is_the_demo(week):
    def said() -> bool:
        found = overview.load(now=NOW, range_=overview.Range.WEEK)
        return any("Demo data" in notice.text for notice in found.banner)

    assert said()
    demo.remove()
    assert not said()


def test_the_command_counts_with_the_right_plurals(db):
    said = io.StringIO()
    call_command("demo", stdout=said)
    words = said.getvalue()
    assert "1 Stripe endpoint," in words
    assert " operation tallies" in words
    assert " audit entries" in words
    assert "None of it is ever sent." in words


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


def test_n8n_is_not_asked_about_it(week, settings):
    settings.N8N_API_KEY = "key"
    letter = DeadLetter.objects.filter(source="n8n", status="dead").first()
    with pytest.raises(execution_retry.NotReplayable, match="demo"):
        execution_retry.begin(dead_letter_id=letter.pk, actor=Actor("user:x"), now=NOW)
    assert not execution_retry.begin_each(dead_letter_ids=[letter.pk], now=NOW)


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
