"""The operator's hand on what is under way, and what a workflow's policy asks for."""

import time
from datetime import timedelta

import pytest

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import replay
from reliability.delivery import control
from reliability.errors import NotCancellable
from reliability.lanes import opening
from reliability.models import DeadLetter, Delivery, Lane, Workflow

from ..support.receiver import Reply, until

pytestmark = pytest.mark.django_db(transaction=True)
ACTOR = Actor("test", "because")


def states() -> list[str]:
    return list(Delivery.objects.order_by("id").values_list("state", flat=True))


def test_a_paused_workflows_deliveries_wait_until_it_is_resumed(workflow, receiver, workers, accept_many):
    made = workflow()
    control.pause(workflow_id=made.pk, actor=ACTOR, now=clock.now())
    accept_many(5)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    time.sleep(3)
    assert not receiver.got
    control.resume(workflow_id=made.pk, actor=ACTOR, now=clock.now())
    receiver.wait_for(5)


def test_a_pause_with_an_end_ends_by_itself(workflow, receiver, workers, accept_many):
    made = workflow()
    end = clock.now() + timedelta(seconds=4)
    control.pause(workflow_id=made.pk, actor=ACTOR, now=clock.now(), until=end)
    accept_many(3)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    receiver.wait_for(3, within=20)
    assert min(one.at for one in receiver.got) >= end.timestamp()


def test_what_is_cancelled_is_not_sent_and_what_was_sent_is_not_cancelled(workflow, receiver, drain, accept):
    workflow()
    later = clock.now() + timedelta(seconds=1)
    first, second = accept(deliver_at=later), accept({"n": 2})
    control.cancel(delivery_id=first.pk, actor=ACTOR, now=clock.now())
    drain()
    assert states() == ["cancelled", "delivered"]
    for one in (first, second):
        with pytest.raises(NotCancellable):
            control.cancel(delivery_id=one.pk, actor=ACTOR, now=clock.now())


def test_send_now_does_not_wait_for_the_time(workflow, receiver, drain, accept):
    workflow()
    one = accept(deliver_at=clock.now() + timedelta(days=1))
    control.send_now(delivery_id=one.pk, actor=ACTOR, now=clock.now())
    drain()
    assert states() == ["delivered"]


def test_a_cancelled_replay_leaves_the_dead_letter_dead(workflow, receiver, drain, accept):
    made = workflow()
    receiver.rule = lambda got: Reply(422)
    accept()
    drain()
    Workflow.objects.filter(pk=made.pk).update(paused=True)
    letter = DeadLetter.objects.get()
    done = replay.replay(dead_letter_id=letter.pk, actor=ACTOR, now=clock.now())
    control.cancel(delivery_id=done.delivery_id, actor=ACTOR, now=clock.now())
    letter.refresh_from_db()
    assert letter.status == "dead"


def test_a_tenants_policy_overrides_the_workflows(workflow, receiver, drain, accept):
    made = workflow(max_retries=3)
    lane = opening.open_lane(workflow_id=made.pk, tenant="acme")
    Lane.objects.filter(pk=lane.pk).update(max_retries=0)
    receiver.rule = lambda got: Reply(500)
    accept(tenant="acme")
    drain(lane)
    assert len(receiver.got) == 1
    assert DeadLetter.objects.get().lane_id == lane.pk


def test_the_rate_limit_holds(workflow, receiver, workers, accept_many):
    workflow(rate_limit_per_minute=120, concurrency_limit=10)
    accept_many(7)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    receiver.wait_for(7, within=20)
    # By the clock that grants them, since on the way a busy machine may delay the first more than the last.
    starts = sorted(Delivery.objects.values_list("sent_at", flat=True))
    # Two may go at once (a second's share); then one every half second.
    assert starts[-1] - starts[0] >= timedelta(seconds=0.5 * 5)


def test_an_unchanged_payload_is_skipped_where_the_workflow_asks_for_it(workflow, receiver, drain, accept):
    workflow(skip_unchanged=True)
    for payload in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2}, {"a": 1, "b": 2}):
        accept(payload)
    drain()
    assert states() == ["delivered", "skipped", "delivered", "delivered"]
    assert len(receiver.got) == 3


def test_a_workflow_that_reports_later_is_awaited_until_its_deadline(workflow, receiver, workers, accept):
    workflow(completion="callback", callback_timeout_ms=1500, max_retries=1)
    accept()
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    receiver.wait_for(2, within=20)
    until(lambda: states() == ["dead"])
    letter = DeadLetter.objects.get()
    assert letter.error_code == "callback_timeout"
    assert receiver.keys.most_common(1)[0][1] == 2


def test_logs_hold_neither_payload_nor_secret(workflow, receiver, workers, accept):
    workflow(auth_header="X-Auth", auth_value="s3cret-value")
    receiver.rule = lambda got: Reply(422, '{"message": "no such client hidden-payload"}')
    accept({"text": "hidden-payload"})
    process = workers.start(N8N_WEBHOOK_URL=receiver.url)
    receiver.wait_for(1)
    workers.end(process)
    assert receiver.got[0].headers["x-auth"] == "s3cret-value"
    log = process.log.read_text()
    assert '"attempt"' in log or "attempt" in log
    assert "hidden-payload" not in log
    assert "s3cret-value" not in log
