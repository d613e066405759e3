"""A run that comes before the one before has ended: skipped, or held until it has, however it ends."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from reliability import queue
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.delivery import control
from reliability.models import Delivery, Lane
from scheduling import jobs
from scheduling.models import CronJob, Run

from ..support.receiver import Reply, until
from .conftest import pings, runs

ACTOR = Actor("user:test", "a test")
NINE = datetime(2026, 6, 15, 9, tzinfo=UTC)


def deliveries(job) -> list[Delivery]:
    """The deliveries of a job's runs, in the runs' order."""
    return [Delivery.objects.get(pk=one) for run in runs(job) for one in run.delivery_ids]


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["pending", "sending", "awaiting_callback"])
def test_skip_keeps_a_run_that_called_nothing(job, post, state):
    made = job()
    post(key="a")
    lease = {"lease_token": "01890a5d-ac96-774b-bcce-b302099a8057", "lease_until": clock.now()}
    Delivery.objects.update(state=state, **lease)
    skipped, again = post(key="b"), post(key="b")
    assert (skipped.status_code, again.status_code) == (202, 200)
    assert (skipped.json()["delivery_ids"], skipped.json()["skipped"]) == ([], "overlap")
    assert again.json() == skipped.json()
    assert [one.result for one in runs(made)] == ["accepted", "skipped"]
    assert pings(made) == ["run", "skipped", "repeat"]
    assert Delivery.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["delivered", "dead", "cancelled", "skipped"])
def test_what_has_ended_does_not_overlap(job, post, state):
    made = job()
    post(key="a")
    Delivery.objects.update(state=state)
    assert "skipped" not in post(key="b").json()
    # The run that counts is the last one that called something, whatever was skipped since.
    assert post(key="c").json()["skipped"] == "overlap"
    assert post(key="d").json()["skipped"] == "overlap"
    Delivery.objects.update(state="delivered")
    post(key="e")
    assert [one.result for one in runs(made)] == ["accepted", "accepted", "skipped", "skipped", "accepted"]


@pytest.mark.django_db
def test_one_unfinished_delivery_of_several_is_enough(job, post):
    job(workflows=("one", "two"))
    first = post(key="a").json()["delivery_ids"]
    Delivery.objects.filter(pk=first[0]).update(state="delivered")
    assert post(key="b").json()["skipped"] == "overlap"


@pytest.mark.django_db
def test_queued_runs_wait_lane_by_lane(job, post):
    made = job(workflows=("one", "two"), overlap="queue")
    for key in "abc":
        post(key=key)
    held = [one.waits_for for one in deliveries(made)]
    ids = [one.pk for one in deliveries(made)]
    assert held == [None, None, *ids[:4]]


@pytest.mark.django_db
@pytest.mark.parametrize(("overlap", "held"), [("queue", True), ("skip", False)])
def test_a_run_behind_cancelled_ones_waits_for_what_they_waited_for(job, post, overlap, held):
    made = job(workflows=("one", "two"), overlap="queue")
    post(key="a"), post(key="b"), post(key="c")
    first = deliveries(made)[0].pk
    for one in deliveries(made)[2:]:
        if one.lane.workflow.slug == "one":
            control.cancel(delivery_id=one.pk, actor=ACTOR, now=clock.now())
    last = deliveries(made)[-1].pk
    CronJob.objects.update(overlap=overlap)
    answer = post(key="d").json()
    waits = [Delivery.objects.get(pk=one).waits_for for one in answer["delivery_ids"]]
    assert waits == ([first, last] if held else [])
    assert ("skipped" in answer) is not held


@pytest.mark.django_db(transaction=True)
def test_queued_runs_are_never_in_flight_at_once(job, post, receiver, drain):
    made = job(overlap="queue")
    receiver.always(wait=0.1)
    for key in "abcd":
        post(key=key)
    drain()
    assert receiver.peak["/webhook/echo"] == 1
    assert [one.key for one in receiver.got] == [f"cron:recap:{key}" for key in "abcd"]
    assert [one.state for one in deliveries(made)] == ["delivered"] * 4


@pytest.mark.django_db(transaction=True)
def test_a_real_worker_sends_the_second_when_the_first_ends(job, post, receiver, workers):
    made = job(overlap="queue")
    receiver.always(wait=1.0)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    post(key="a")
    receiver.wait_for(1)
    post(key="b")
    receiver.wait_for(2)
    until(lambda: {one.state for one in deliveries(made)} == {"delivered"}, what="both delivered")
    assert receiver.peak["/webhook/echo"] == 1
    assert receiver.got[1].at - receiver.got[0].at >= 1.0
    assert receiver.got[1].at - receiver.got[0].at < 4.0


@pytest.mark.django_db(transaction=True)
def test_the_second_goes_when_the_first_dies(job, post, receiver, drain):
    made = job(overlap="queue")
    receiver.rule = lambda got: Reply(422 if got.key.endswith(":a") else 200)
    post(key="a"), post(key="b")
    drain()
    assert [one.state for one in deliveries(made)] == ["dead", "delivered"]


@pytest.mark.django_db(transaction=True)
def test_the_second_goes_when_the_first_is_cancelled(job, post, receiver, drain):
    made = job(overlap="queue")
    for key in "abc":
        post(key=key)
    first, second, third = deliveries(made)
    control.cancel(delivery_id=second.pk, actor=ACTOR, now=clock.now())
    third.refresh_from_db()
    assert third.waits_for == first.pk
    control.cancel(delivery_id=first.pk, actor=ACTOR, now=clock.now())
    third.refresh_from_db()
    assert third.waits_for is None
    drain()
    assert [one.key for one in receiver.got] == ["cron:recap:c"]


@pytest.mark.django_db(transaction=True)
def test_the_second_goes_when_the_first_never_reports(job, post, receiver, drain):
    """A callback that does not come in time fails the first one, with no retries left, by a lapse."""
    made = job(overlap="queue")
    made.workflows.update(completion="callback", callback_timeout_ms=60_000, max_retries=0)
    post(key="a"), post(key="b")
    drain()
    assert [one.state for one in deliveries(made)] == ["awaiting_callback", "pending"]
    Delivery.objects.filter(state="awaiting_callback").update(lease_until=clock.now() - timedelta(seconds=1))
    drain()
    assert [one.state for one in deliveries(made)] == ["dead", "awaiting_callback"]
    assert len(receiver.got) == 2


@pytest.mark.django_db(transaction=True)
def test_no_run_is_held_by_one_that_ends_meanwhile(job, post, receiver, drain):
    """Pings come while runs end, as fast as they can: whoever is held is let go, and none goes beside another."""
    made = job(overlap="queue")
    receiver.always(wait=0.005)
    stop = threading.Event()

    def send():
        try:
            for number in range(40):
                assert post(key=f"{threading.get_ident()}-{number}").status_code == 202
        finally:
            connection.close()

    def work():
        try:
            while not stop.is_set():
                drain()
        finally:
            connection.close()

    post(key="first")
    senders = [threading.Thread(target=send) for _ in range(3)]
    worker = threading.Thread(target=work)
    for thread in (*senders, worker):
        thread.start()
    for thread in senders:
        thread.join()
    stop.set()
    worker.join()
    drain()
    assert {one.state for one in deliveries(made)} == {"delivered"}
    assert len(receiver.got) == 121
    assert receiver.peak["/webhook/echo"] == 1
    assert [one.key for one in receiver.got] == [f"cron:recap:{run.key}" for run in runs(made)]


@pytest.fixture
def missed_two(job, post, monkeypatch):
    """A daily job whose last run was three days ago; return what a ping answers now."""

    def make(**values):
        made = job(schedule="0 9 * * *", **values)
        Run.objects.create(job=made, key="x", slot=NINE - timedelta(days=3), started_at=NINE - timedelta(days=3))
        real = jobs._read

        def look(slug):
            found = real(slug)
            return jobs._JobState(NINE, found.on, found.workflows, found.last, found.job)

        monkeypatch.setattr(jobs, "_read", look)
        return made, post().json()

    return make


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("catch_up", "told"),
    [("none", (0, None)), ("one", (2, "2026-06-13T09:00:00Z"))],
)
def test_one_run_for_its_own_slot_or_for_all(missed_two, catch_up, told):
    made, answer = missed_two(catch_up=catch_up)
    (sent,) = deliveries(made)
    assert answer["delivery_ids"] == [str(sent.pk)]
    assert (sent.document["missed"], sent.document["missed_since"]) == told
    assert sent.document["slot"] == "2026-06-15T09:00:00Z"
    assert runs(made)[-1].missed == 2


@pytest.mark.django_db
@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_a_run_for_each_oldest_first_one_after_the_other(missed_two, post, overlap):
    made, answer = missed_two(catch_up="all", overlap=overlap)
    sent = deliveries(made)
    assert answer["delivery_ids"] == [str(one.pk) for one in sent]
    assert [one.document["slot"] for one in sent] == [
        "2026-06-13T09:00:00Z",
        "2026-06-14T09:00:00Z",
        "2026-06-15T09:00:00Z",
    ]
    assert [one.waits_for for one in sent] == [None, sent[0].pk, sent[1].pk]
    again = post()
    assert (again.status_code, again.json()) == (200, answer)
    assert {str(one.caught_up_by) for one in runs(made)[1:3]} == {answer["run"]}
    assert str(runs(made)[-1].pk) == answer["run"]


@pytest.mark.django_db
def test_a_run_by_hand_is_beside_the_schedule(job, post):
    made = job(schedule="0 9 * * *")
    ran = jobs.run_now(job_id=made.pk, actor=ACTOR, now=clock.now())
    assert (ran.slot, len(ran.deliveries)) == (None, 1)
    with pytest.raises(jobs.Overlapping):
        jobs.run_now(job_id=made.pk, actor=ACTOR, now=clock.now())
    assert len(runs(made)) == 1
    Delivery.objects.update(state="delivered")
    assert post().status_code == 202
    jobs.disable(job_id=made.pk, actor=ACTOR, now=clock.now())
    with pytest.raises(jobs.Disabled):
        jobs.run_now(job_id=made.pk, actor=ACTOR, now=clock.now())
    assert pings(made) == ["run"]


def test_lanes_are_woken(db, job, post):
    job(workflows=("one", "two"))
    post()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'dispatch' AND status = 'todo'")
        assert cursor.fetchone()[0] >= Lane.objects.count() == 2
    assert queue.DISPATCH_QUEUE == "dispatch"
