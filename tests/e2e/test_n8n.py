"""The main job against a real n8n."""

import pytest

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import replay
from reliability.models import Attempt, Breaker, BreakerTransition, DeadLetter, Delivery

from ..support.receiver import Reply, until

pytestmark = pytest.mark.e2e


def states() -> set[str]:
    return set(Delivery.objects.values_list("state", flat=True))


def test_a_delivery_arrives_and_its_execution_is_visible_in_n8n(n8n, worker, workflow, accept):
    workflow("arrives", timeout_ms=20_000)
    accept({"order": 4711, "text": "ü €"}, workflow="arrives", idempotency_key="order-4711")
    until(lambda: states() == {"delivered"}, within=60)
    (execution,) = until(lambda: n8n.executions("e2earrives"))
    assert execution["status"] == "success"
    answer = Attempt.objects.get().response_body
    assert '"order":4711' in answer
    assert "order-4711" in answer
    assert "ü €" in answer


def test_a_failing_workflow_is_retried_with_one_key_dies_and_is_replayed(n8n, worker, workflow, accept, vendor):
    vendor.rule = lambda got: Reply(500, '{"error": "down"}')
    workflow("charge", timeout_ms=20_000, max_retries=2)
    accept({"amount": 5}, workflow="charge", idempotency_key="invoice-1")
    letter = until(DeadLetter.objects.first, within=60)
    assert (letter.error_code, letter.retry_count) == ("http_500", 2)
    assert letter.document == {"amount": 5}
    assert [(one.key, one.json) for one in vendor.got] == [("invoice-1", {"amount": 5})] * 3
    assert [one["status"] for one in until(lambda: n8n.executions("e2echarge"))] == ["error"] * 3
    vendor.rule = lambda got: Reply()
    replay.replay(dead_letter_id=letter.pk, actor=Actor("test", "the vendor is back"), now=clock.now())
    until(lambda: DeadLetter.objects.get().status == "recovered")
    assert {one.key for one in vendor.got} == {"invoice-1"}
    assert len(vendor.got) == 4


def test_an_unpublished_workflow_opens_its_lane_and_buries_nothing(n8n, worker, workflow, accept_many):
    workflow("draft", timeout_ms=20_000)
    accept_many(20, workflow="draft")
    breaker = until(lambda: Breaker.objects.filter(scope="lane", state="open").first())
    assert "not registered" in breaker.reason
    assert states() <= {"pending", "sending"}
    assert not DeadLetter.objects.exists()
    assert not Breaker.objects.filter(scope="instance").exclude(state="closed").exists()


def test_n8n_stopped_in_mid_run_loses_nothing(n8n, worker, workflow, accept_many):
    workflow("slow", timeout_ms=20_000, max_retries=5)
    accept_many(60, workflow="slow")
    until(lambda: Delivery.objects.filter(state="delivered").count() >= 10, within=60)
    n8n.kill()
    until(lambda: BreakerTransition.objects.filter(breaker__scope="instance", to_state="open").exists(), within=60)
    assert not DeadLetter.objects.exists()
    assert Breaker.objects.get(scope="lane").state == "closed"
    left = Delivery.objects.exclude(state="delivered").count()
    assert left > 0
    n8n.start()
    until(lambda: states() == {"delivered"}, within=180)
    assert Delivery.objects.count() == 60
    assert not DeadLetter.objects.exists()
    assert Breaker.objects.get(scope="instance").state == "closed"
