"""Each way that a delivery, a dead letter, a breaker or an event of Stripe goes is counted, once, and for good."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from reliability.bulk import operations, steps
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import create, purge, replay
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.delivery import control, executions
from reliability.errors import BackstopError, SignatureRefused, UnknownEndpoint
from reliability.lanes import breakers, opening
from reliability.models import (
    Attempt,
    DeadLetter,
    Delivery,
    ExecutionStatus,
    Lane,
    LaneTotal,
    Rollup,
    StripeEndpoint,
    StripeRefusal,
    Total,
    WorkerFigure,
)
from reliability.n8n import callbacks
from reliability.n8n.callbacks import Completion
from reliability.policies.stripe_event import Event
from reliability.retention import runner
from reliability.stripe import ledger

from ..support.receiver import Reply, until

pytestmark = pytest.mark.django_db(transaction=True)
ACTOR = Actor("somebody", "a test")


def finish(drain, *, rounds: int = 30) -> None:
    for _ in range(rounds):
        drain()
        if not Delivery.objects.pending().exists():
            return


def outcomes(scraped, workflow="echo"):
    names = ("delivered", "dead", "cancelled", "skipped")
    return tuple(scraped("backstop_deliveries_total", workflow=workflow, outcome=one) or 0 for one in names)


def results(scraped):
    found = {}
    for one in scraped.samples:
        if one.name == "backstop_attempts_total" and one.value:
            found[one.labels["result"]] = one.value
    return found


def test_attempts_by_result_are_those_on_record(workflow, receiver, drain, accept_many, scrape):
    workflow(max_retries=1)
    answers = {0: 200, 1: 500, 2: 422, 3: 200}
    receiver.rule = lambda got: Reply(answers[json.loads(got.body)["n"]])
    accept_many(4)
    finish(drain)
    seen = scrape()
    assert outcomes(seen) == (2, 2, 0, 0)
    assert results(seen) == {"delivered": 2, "transient": 2, "rejected": 1}
    assert sum(results(seen).values()) == Attempt.objects.count()
    assert seen("backstop_attempt_duration_seconds_count", workflow="echo") == 5
    assert 0 < seen("backstop_attempt_duration_seconds_sum", workflow="echo") < 60
    assert seen("backstop_delivery_latency_seconds_count", workflow="echo") == 2
    assert seen("backstop_delivery_latency_seconds_bucket", workflow="echo", le="+Inf") == 2
    assert seen("backstop_retries_total", result="failed") == 1
    assert seen("backstop_dead_letters_total", workflow="echo") == 2
    assert seen("backstop_dlq_entries", workflow="echo", status="dead") == 2


@pytest.mark.parametrize(("second", "expected"), [(200, (1, 0)), (500, (0, 1))])
def test_a_retry_is_counted_by_how_it_went(workflow, receiver, drain, accept, scrape, second, expected):
    workflow(max_retries=1)
    answers = iter([500, second])
    receiver.rule = lambda got: Reply(next(answers))
    accept()
    finish(drain)
    seen = scrape()
    assert tuple(seen("backstop_retries_total", result=one) for one in ("delivered", "failed")) == expected
    kept = Rollup.objects.filter(grain="minute").aggregate(all=Sum("retries"), good=Sum("retries_delivered"))
    assert (kept["good"], kept["all"] - kept["good"]) == expected


@pytest.mark.parametrize(("succeeded", "expected"), [(True, (1, 0)), (False, (0, 1))])
def test_a_retry_that_is_reported_on_is_counted_by_the_report(
    workflow, receiver, drain, accept, scrape, succeeded, expected
):
    workflow(max_retries=1, completion="callback")
    answers = iter([500, 200])
    receiver.rule = lambda got: Reply(next(answers))
    made = accept()
    finish(drain)
    assert scrape()("backstop_retries_total") == 0
    callbacks.report(delivery_id=made.pk, completion=Completion(succeeded=succeeded), now=clock.now())
    seen = scrape()
    assert tuple(seen("backstop_retries_total", result=one) for one in ("delivered", "failed")) == expected


def test_the_same_report_twice_counts_once(workflow, receiver, drain, accept, scrape):
    workflow(completion="callback")
    made = accept()
    drain()
    for _ in range(2):
        callbacks.report(delivery_id=made.pk, completion=Completion(succeeded=True, execution_id="7"), now=clock.now())
    seen = scrape()
    assert outcomes(seen) == (1, 0, 0, 0)
    assert seen("backstop_n8n_executions_total", workflow="echo", status="success") == 1


def test_a_report_that_never_came(workflow, receiver, drain, accept, scrape):
    workflow(completion="callback", callback_timeout_ms=1, max_retries=0)
    accept()
    until(lambda: drain() or outcomes(scrape())[1], within=10, what="its end")
    assert results(scrape()) == {"delivered": 1, "callback_timeout": 1}
    assert outcomes(scrape()) == (0, 1, 0, 0)


def test_what_expired_is_dead(workflow, receiver, drain, accept, scrape):
    workflow(paused=True)
    accept(expires_at=clock.now() + timedelta(milliseconds=1))
    until(lambda: drain() or outcomes(scrape())[1], within=10, what="its end")
    assert outcomes(scrape()) == (0, 1, 0, 0)
    assert scrape()("backstop_dead_letters_total", reason="expired") == 1


def test_cancelled_and_skipped(workflow, accept, scrape):
    workflow(paused=True, skip_unchanged=True)
    made = accept({"a": 1}, idempotency_key="1")
    accept({"a": 1}, idempotency_key="2")
    control.cancel(delivery_id=made.pk, actor=ACTOR, now=clock.now())
    with pytest.raises(BackstopError):
        control.cancel(delivery_id=made.pk, actor=ACTOR, now=clock.now())
    assert outcomes(scrape()) == (0, 0, 1, 1)


def test_a_bulk_replay_that_is_withdrawn(workflow, scrape):
    workflow(paused=True)
    for n in range(3):
        create.from_api(report=create.Report("echo", "default", "{}", f"it failed {n}"), now=clock.now())
    started = operations.submit(
        kind="replay", selection=DeadLetterFilter(), actor=ACTOR, now=clock.now(), rate_per_second=100
    )
    steps.step(operation_id=started.pk, now=clock.now())
    assert scrape()("backstop_dlq_entries", status="replaying") == 3
    operations.cancel(operation_id=started.pk, actor=ACTOR, now=clock.now())
    steps.step(operation_id=started.pk, now=clock.now())
    seen = scrape()
    assert outcomes(seen) == (0, 0, 3, 0)
    assert (seen("backstop_dlq_entries", status="dead"), seen("backstop_dlq_entries", status="replaying")) == (3, 0)
    assert seen("backstop_dead_letters_total") == 3, "laid back is not died again"


def test_dead_letters_by_status_follow_every_change(workflow, receiver, drain, accept, scrape):
    workflow(max_retries=0)
    receiver.rule = lambda got: Reply(500)
    accept()
    accept()
    finish(drain)
    one, other = DeadLetter.objects.order_by("id")
    with transaction.atomic():
        purge.purge_each(dead_letter_ids=[one.pk], now=clock.now())
    receiver.rule = lambda got: Reply(200)
    replay.replay(dead_letter_id=other.pk, actor=ACTOR, now=clock.now())
    finish(drain)
    kept = {status: scrape()("backstop_dlq_entries", status=status) for status in ("dead", "purged", "recovered")}
    assert kept == {"dead": 0, "purged": 1, "recovered": 1}
    assert outcomes(scrape()) == (1, 2, 0, 0)
    Delivery.objects.filter(dead_letter=one).update(dead_letter=None)
    DeadLetter.objects.filter(pk=one.pk).delete()
    assert scrape()("backstop_dlq_entries", status="purged") == 0
    assert scrape()("backstop_dead_letters_total") == 2


def test_breakers_by_state_and_transition(workflow, accept, lane_breaker, scrape):
    workflow(paused=True)
    accept()
    breaker = lane_breaker()
    breakers.force_open(breaker_id=breaker.pk, actor=ACTOR, now=clock.now())
    breakers.reset(breaker_id=breaker.pk, actor=ACTOR, now=clock.now())
    breakers.force_open(breaker_id=breaker.pk, actor=ACTOR, now=clock.now())
    breakers.force_open(breaker_id=breakers.instance().pk, actor=ACTOR, now=clock.now())
    seen = scrape()
    assert seen("backstop_breaker_transitions_total", workflow="echo", to="forced_open") == 2
    assert seen("backstop_breaker_transitions_total", workflow="echo", to="closed") == 1
    assert seen("backstop_breaker_transitions_total", workflow="_instance", to="forced_open") == 1
    assert seen("backstop_breaker_state", workflow="echo", tenant="default", state="forced_open") == 1
    assert seen("backstop_breaker_state", workflow="echo", tenant="default", state="closed") == 0
    assert seen("backstop_breaker_state", workflow="_instance", state="forced_open") == 1


def test_executions_are_counted_when_their_status_changes(workflow, scrape):
    lane = opening.open_lane(workflow_id=workflow().pk, tenant="default")
    for status in (ExecutionStatus.RUNNING, ExecutionStatus.RUNNING, ExecutionStatus.ERROR, ExecutionStatus.ERROR):
        executions.record(lane_id=lane.pk, execution_id="9", status=status, now=clock.now())
    seen = scrape()
    assert seen("backstop_n8n_executions_total", status="running") == 1
    assert seen("backstop_n8n_executions_total", status="error") == 1


def test_what_left_for_the_archive(workflow, scrape):
    workflow()
    for n in range(3):
        create.from_api(report=create.Report("echo", "default", "{}", f"it failed {n}"), now=clock.now())
    assert scrape()("backstop_dlq_expired_total") == 0
    for _ in range(2):
        DeadLetter.objects.filter(error_message__in=["it failed 0", "it failed 1"]).update(status="archived")
    assert scrape()("backstop_dlq_expired_total") == 2
    assert scrape()("backstop_dlq_entries", status="archived") == 2
    DeadLetter.objects.filter(status="archived").delete()
    assert scrape()("backstop_dlq_expired_total") == 2
    assert scrape()("backstop_dlq_entries", status="archived") == 0


def test_totals_outlive_retention_and_the_lane(workflow, receiver, drain, accept, scrape):
    workflow()
    accept()
    accept(tenant="other")
    finish(drain)
    for _ in runner.cleanup(now=clock.now() + timedelta(days=4000)):
        pass
    assert not Rollup.objects.exists()
    assert outcomes(scrape()) == (2, 0, 0, 0)
    assert not Delivery.objects.exists()
    Lane.objects.get(tenant="other").delete()
    assert outcomes(scrape()) == (2, 0, 0, 0)


def test_the_tenant_is_a_label_where_that_is_asked_for(workflow, receiver, drain, accept, scrape, settings):
    workflow()
    accept()
    accept(tenant="other")
    finish(drain)
    assert scrape().labels("backstop_deliveries_total") == {"workflow", "outcome"}
    settings.METRICS_TENANT_LABEL = True
    seen = scrape()
    assert seen("backstop_deliveries_total", tenant="other", outcome="delivered") == 1
    assert seen("backstop_slots_limit", workflow="echo", tenant="default") == 5


def test_two_workers_and_their_restart_take_nothing_back(workflow, receiver, workers, accept_many, scrape):
    for n in range(3):
        workflow(f"echo-{n}", concurrency_limit=4)
    for turn in (1, 2):
        for n in range(3):
            accept_many(20, workflow=f"echo-{n}")
        running = [workers.start(N8N_WEBHOOK_URL=receiver.url) for _ in range(2)]
        done = 60 * turn
        until(lambda done=done: Delivery.objects.filter(state="delivered").count() == done, within=60, what=str(done))
        seen = scrape()
        assert seen("backstop_deliveries_total", outcome="delivered") == done
        assert seen("backstop_attempts_total") == done
        assert seen("backstop_delivery_latency_seconds_count") == done
        until(lambda: scrape()("backstop_workers_alive") >= 2 * turn, within=30, what="both workers")  # noqa: B023  # now
        for one in running:
            workers.kill(one)


def test_what_an_alert_is_made_of_is_told_before_it_happens(workflow, scrape):
    workflow()
    StripeEndpoint.objects.create(slug="main")
    seen = scrape()
    assert seen("backstop_deliveries_total", workflow="echo", outcome="dead") == 0
    assert seen("backstop_attempts_total", workflow="echo", result="transient") == 0
    assert seen("backstop_dead_letters_total", workflow="echo", reason="timeout") == 0
    assert seen("backstop_breaker_transitions_total", workflow="echo", to="open") == 0
    assert seen("backstop_breaker_transitions_total", workflow="_instance", to="open") == 0
    assert seen("backstop_stripe_events_total", endpoint="main", result="signature") == 0
    assert seen("backstop_delivery_latency_seconds_bucket", workflow="echo", le="+Inf") == 0


def test_events_of_stripe_are_counted_by_endpoint_and_strangers_by_none(db, scrape):
    endpoint = StripeEndpoint.objects.create(slug="main")
    event = Event(id="evt_1", type="invoice.paid", livemode=False, occurred_at=clock.now())
    for expected in ("new", "repeat", "repeat"):
        assert ledger.record(event=event, text="{}", endpoint_id=endpoint.pk) == expected
    for _ in range(3):
        ledger.record_refusal(slug="main", error=SignatureRefused("signature", "It does not fit."), address="")
        ledger.record_refusal(slug="made-up-by-a-stranger", error=UnknownEndpoint(), address="")
    seen = scrape()
    assert seen("backstop_stripe_events_total", endpoint="main", result="new") == 1
    assert seen("backstop_stripe_events_total", endpoint="main", result="duplicate") == 2
    assert seen("backstop_stripe_events_total", endpoint="main", result="signature") == 3
    assert seen("backstop_stripe_events_total", endpoint="_unknown", result="unknown_endpoint") == 3
    assert "stranger" not in seen.text


def test_a_flood_of_refusals_is_counted_in_full(db, scrape):
    for _ in range(120):
        ledger.record_refusal(slug="made-up", error=UnknownEndpoint(), address="")
    assert scrape()("backstop_stripe_events_total", endpoint="_unknown", result="unknown_endpoint") == 120
    assert StripeRefusal.objects.count() == 100


def test_many_at_once_count_each_change_once_and_wait_for_nobody(workflow, accept_many, scrape):
    """Each thread cancels deliveries of two workflows in an order of its own, within one transaction."""
    for slug in ("one", "other"):
        workflow(slug, paused=True)
    ones, others = accept_many(40, workflow="one"), accept_many(40, workflow="other")
    made = [(first.pk, second.pk) for first, second in zip(ones, others, strict=True)]

    def cancel(part):
        try:
            for n, pair in enumerate(made[part::4]):
                with transaction.atomic():
                    for pk in pair if (n + part) % 2 else reversed(pair):
                        control.cancel(delivery_id=pk, actor=ACTOR, now=clock.now())
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cancel, range(4)))
    seen = scrape()
    assert (outcomes(seen, "one"), outcomes(seen, "other")) == ((0, 0, 40, 0), (0, 0, 40, 0))
    with connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT count(*) FROM backstop_outbox), (SELECT count(*) FROM backstop_outbox_due)")
        assert cursor.fetchone() == (0, 0)


def test_what_was_rolled_back_was_not_counted(workflow, accept, scrape):
    workflow(paused=True)
    made = accept()
    with transaction.atomic():
        control.cancel(delivery_id=made.pk, actor=ACTOR, now=clock.now())
        transaction.set_rollback(True)
    assert outcomes(scrape()) == (0, 0, 0, 0)


def test_a_worker_says_what_it_uses(workers, scrape):
    one = workers.start()
    until(lambda: scrape()("backstop_worker_memory_bytes") is not None, within=40, what="its first figures")
    seen = scrape()
    name = f"{socket.gethostname()}:{one.pid}"
    assert 20e6 < seen("backstop_worker_memory_bytes", worker=name) < 500e6
    assert 0 < seen("backstop_worker_cpu_seconds_total", worker=name) < 60
    WorkerFigure.objects.update(seen_at=clock.now() - timedelta(minutes=1))
    assert scrape()("backstop_worker_memory_bytes", worker=name) is None, "what is silent is not there"


def test_a_recount_says_what_the_triggers_say(workflow, scrape):
    workflow(paused=True)
    for n in range(3):
        create.from_api(report=create.Report("echo", "default", "{}", f"it failed {n}"), now=clock.now())
    for _ in range(2):
        with connection.cursor() as cursor:
            cursor.execute("SELECT backstop_recount_dead_letters()")
        assert scrape()("backstop_dlq_entries", status="dead") == 3
    Total.objects.filter(name="letters").delete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT backstop_recount_dead_letters()")
    assert scrape()("backstop_dlq_entries", status="dead") == 3
    assert not LaneTotal.objects.exists()


def test_at_commit_groups_come_before_deaths_and_totals_whatever_was_touched_first(workflow, accept):
    """All transactions lock what they count in this order, so that no two wait for each other."""
    workflow(paused=True)
    made = accept()
    with transaction.atomic(), connection.cursor() as cursor:
        control.cancel(delivery_id=made.pk, actor=ACTOR, now=clock.now())
        create.from_api(report=create.Report("echo", "default", "{}", "it failed"), now=clock.now())
        cursor.execute("SELECT count(*) FROM backstop_outbox_due WHERE xact = pg_current_xact_id()")
        assert cursor.fetchone() == (1,), "however many changes there are"
        cursor.execute("SET CONSTRAINTS backstop_outbox_apply IMMEDIATE")
        tables = ("reliability_failuregroup", "reliability_deathrollup", "reliability_total")
        found = []
        for table in tables:
            cursor.execute(f"SELECT min(cmin::text::int), max(cmin::text::int) FROM {table}")
            found += cursor.fetchone()
        assert found == sorted(found), "cmin numbers a transaction's commands"
        cursor.execute("SELECT (SELECT count(*) FROM backstop_outbox), (SELECT count(*) FROM backstop_outbox_due)")
        assert cursor.fetchone() == (0, 0)


def test_a_transaction_that_changes_no_count_leaves_nothing_to_apply(workflow):
    create.from_api(report=create.Report(workflow().slug, "default", "{}", "it failed"), now=clock.now())
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE reliability_deadletter SET retry_count = retry_count + 1")
        cursor.execute("UPDATE reliability_deadletter SET status = 'purged' WHERE false")
        cursor.execute("SELECT (SELECT count(*) FROM backstop_outbox), (SELECT count(*) FROM backstop_outbox_due)")
        assert cursor.fetchone() == (0, 0)
