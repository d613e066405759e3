"""Figures by minute and hour, kept by those that settle."""

import json
from datetime import timedelta

import pytest
from django.db.models import F, Sum

from reliability.core import clock
from reliability.delivery import rollups
from reliability.delivery.rollups import Tally
from reliability.lanes import opening
from reliability.models import LATENCY_EDGES, Attempt, Delivery, FailureGroup, Rollup
from reliability.n8n import callbacks
from reliability.n8n.callbacks import Completion
from reliability.retention import runner

from ..support.receiver import Reply, until

pytestmark = pytest.mark.django_db(transaction=True)
FIGURES = ("delivered", "dead", "attempts", "failures")


def figures(grain: str = "hour"):
    found = Rollup.objects.filter(grain=grain).aggregate(**{name: Sum(name) for name in FIGURES})
    return tuple(found[name] or 0 for name in FIGURES)


def latencies(grain: str = "hour"):
    return [
        sum(column)
        for column in zip(
            *Rollup.objects.filter(grain=grain).exclude(latency=[]).values_list("latency", flat=True), strict=True
        )
    ]


def test_delivered_retried_and_dead_are_counted_by_minute_and_hour(workflow, receiver, drain, accept_many):
    workflow(max_retries=1)
    receiver.rule = lambda got: Reply(500 if json.loads(got.body)["n"] % 2 else 200)
    accept_many(6)
    for _ in range(20):
        drain()
        if not Delivery.objects.pending().exists():
            break
    assert figures("minute") == figures("hour") == (3, 3, 9, 6)
    assert Attempt.objects.count() == 9
    assert sum(latencies()) == 3
    assert len(latencies()) == len(LATENCY_EDGES) + 1


def test_what_expired_is_dead_without_an_attempt(workflow, receiver, drain, accept):
    workflow(paused=True)
    accept(expires_at=clock.now() + timedelta(milliseconds=1))
    until(lambda: drain() or figures() != (0, 0, 0, 0), within=10, what="its end")
    assert figures() == (0, 1, 0, 0)


@pytest.mark.parametrize(("succeeded", "expected"), [(True, (1, 0, 1, 0)), (False, (0, 1, 1, 1))])
def test_an_attempt_that_is_reported_on_later_is_counted_once(workflow, receiver, drain, accept, succeeded, expected):
    workflow(completion="callback", max_retries=0)
    made = accept()
    drain()
    assert figures() == (0, 0, 1, 0)
    Delivery.objects.update(created_at=F("created_at") - timedelta(minutes=4))
    callbacks.report(delivery_id=made.pk, completion=Completion(succeeded=succeeded), now=clock.now())
    assert figures() == expected
    if succeeded:
        assert latencies()[LATENCY_EDGES.index(300_000)] == 1


def test_a_report_that_never_came_is_a_failure_and_no_second_attempt(workflow, receiver, drain, accept):
    workflow(completion="callback", callback_timeout_ms=1, max_retries=0, on_unknown_outcome="hold")
    accept()
    until(lambda: drain() or figures()[1], within=10, what="its end")
    assert figures() == (0, 1, 1, 1)


def test_many_workers_count_each_once(workflow, receiver, workers, accept_many):
    for n in range(3):
        workflow(f"echo-{n}", concurrency_limit=4)
        accept_many(40, workflow=f"echo-{n}")
    for _ in range(2):
        workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: Delivery.objects.filter(state="delivered").count() == 120, within=60, what="120 delivered")
    assert figures("minute") == figures("hour") == (120, 0, 120, 0)
    assert sum(latencies()) == sum(latencies("minute")) == 120


def test_figures_go_when_they_are_old(workflow):
    lane = opening.open_lane(workflow_id=workflow().pk, tenant="default")
    now = clock.now()
    for age in (1, 9, 399, 401):
        rollups.count(lane_id=lane.pk, tally=Tally(delivered=1, latencies=[age]), now=now - timedelta(days=age))
    old = {"workflow_id": lane.workflow_id, "first_at": now, "last_at": now - timedelta(days=401)}
    FailureGroup.objects.create(fingerprint="a", **old)
    FailureGroup.objects.create(fingerprint="b", dead=1, **old)
    done = {one.name: one.rows for one in runner.cleanup(now=now)}
    assert (done["rollup_minutes"], done["rollup_hours"], done["failure_groups"]) == (3, 1, 1)
    assert (figures("minute")[0], figures("hour")[0]) == (1, 3)
    assert FailureGroup.objects.get().fingerprint == "b"
