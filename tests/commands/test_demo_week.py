"""The week of `manage.py demo`: it holds together, and is marked throughout."""

from datetime import UTC, datetime

import pytest
from django.db.models import Count, F, Q, Sum

from reliability.core.audit import Actor
from reliability.management import demo
from reliability.models import (
    Attempt,
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
from scheduling.models import Run

from ..support import shared

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 12, 14, 30, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def week(django_db_setup, django_db_blocker):
    with shared.transaction_of_module(django_db_blocker):
        yield demo.fill(now=NOW)


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


def test_the_charts_add_up_to_the_rows():
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


def test_the_failure_groups_are_those_of_the_dead_letters():
    groups = FailureGroup.objects.filter(dead__gt=0).values_list("workflow__slug", "fingerprint", "dead")
    letters = DeadLetter.objects.dead().values_list("lane__workflow__slug", "fingerprint").annotate(n=Count("pk"))
    assert {(slug, kind): n for slug, kind, n in groups} == {(slug, kind): n for slug, kind, n in letters}


def test_the_same_seed_makes_the_same_week():
    first = list(Delivery.objects.order_by("pk").values_list("pk", "idempotency_key", "state", "payload"))
    demo.remove()
    demo.fill(now=NOW)
    assert list(Delivery.objects.order_by("pk").values_list("pk", "idempotency_key", "state", "payload")) == first
    demo.remove()
    demo.fill(now=NOW, seed=8)
    assert list(Delivery.objects.order_by("pk").values_list("pk", "idempotency_key", "state", "payload")) != first


def test_it_is_marked_throughout():
    for model in (Workflow, Delivery, DeadLetter, Breaker, StripeEvent, Run):
        assert all(is_demo(pk) for pk in model.objects.values_list("pk", flat=True)), model
    assert not Workflow.objects.exclude(slug__startswith="demo-").exists()
    assert not Lane.objects.exclude(tenant__startswith="demo-").exists()
    assert not is_demo(uuid7())


def test_the_overview_says_that_it_is_the_demo():
    def said() -> bool:
        found = overview.load(now=NOW, range_=overview.Range.WEEK)
        return any("Demo data" in notice.text for notice in found.banner)

    assert said()
    demo.remove()
    assert not said()


def test_n8n_is_not_asked_about_it(settings):
    settings.N8N_API_KEY = "key"
    letter = DeadLetter.objects.filter(source="n8n", status="dead").first()
    with pytest.raises(execution_retry.NotReplayable, match="demo"):
        execution_retry.begin(dead_letter_id=letter.pk, actor=Actor("user:x"), now=NOW)
    assert not execution_retry.begin_each(dead_letter_ids=[letter.pk], now=NOW)
