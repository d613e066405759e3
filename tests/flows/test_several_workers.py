"""Real worker processes, several at once, and killed in the middle."""

import threading

import pytest
from django.db import connection

from reliability import queue
from reliability.models import Attempt, DeadLetter, Delivery

from ..support.receiver import Reply, until

pytestmark = pytest.mark.django_db(transaction=True)


def all_in(state: str, count: int):
    return lambda: Delivery.objects.filter(state=state).count() == count


def test_the_limit_holds_across_workers_and_none_goes_twice(workflow, receiver, workers, accept_many):
    """A lane is worked on by one worker at a time: the one that does ends in the middle, and another takes over."""
    workflow(concurrency_limit=3)
    receiver.always(wait=0.05)
    started = [workers.start(N8N_WEBHOOK_URL=receiver.url) for _ in range(3)]
    until(lambda: queue.workers_alive() == 3, what="three workers")
    accept_many(60)
    until(lambda: Attempt.objects.count() >= 10, what="10 attempts")
    busy = Attempt.objects.latest("started_at").worker.rpartition(":")[2]
    (first,) = [one for one in started if str(one.pid) == busy]
    assert workers.end(first) < 60
    accept_many(30)
    until(all_in("delivered", 90), what="90 delivered")
    assert receiver.peak["/webhook/echo"] == 3
    assert set(receiver.keys.values()) == {1}
    assert len(receiver.keys) == 90
    assert len({one.worker for one in Attempt.objects.all()}) > 1


def test_a_killed_worker_loses_nothing_and_the_cut_off_attempts_are_on_record(workflow, receiver, workers, accept_many):
    workflow(concurrency_limit=4, timeout_ms=1500)
    slow = threading.Event()
    receiver.rule = lambda got: Reply(wait=0.02 if slow.is_set() else 30)
    made = accept_many(12)
    first = workers.start(N8N_WEBHOOK_URL=receiver.url)
    receiver.wait_for(4)
    workers.kill(first)
    slow.set()
    assert Delivery.objects.filter(state="sending").count() == 4

    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(all_in("delivered", 12), within=60, what="12 delivered")
    assert Attempt.objects.filter(result="interrupted", code="worker_lost").count() == 4
    assert set(receiver.keys) == {one.idempotency_key for one in made}
    assert sum(receiver.keys.values()) == 16
    again = [one for one in receiver.got if one.headers["x-backstop-attempt"] == "2"]
    assert len(again) == 4
    assert not DeadLetter.objects.exists()


@pytest.mark.parametrize("kills", [4])
def test_workers_killed_again_and_again_lose_nothing(workflow, receiver, workers, accept_many, kills):
    """Each is killed at a moment that nobody chose: between claim and send, during it, before it settles."""
    workflow(concurrency_limit=8, timeout_ms=1000, max_retries=50)
    receiver.always(wait=0.03)
    made = accept_many(150)
    for number in range(kills):
        process = workers.start(N8N_WEBHOOK_URL=receiver.url)
        seen = len(receiver.got)
        until(lambda seen=seen: len(receiver.got) > seen, within=60, what="a request")
        threading.Event().wait(0.013 * number)
        workers.kill(process)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(all_in("delivered", 150), within=90, what="150 delivered")
    assert set(receiver.keys) == {one.idempotency_key for one in made}
    assert receiver.peak["/webhook/echo"] <= 8
    interrupted = Attempt.objects.filter(result="interrupted").count()
    assert sum(receiver.keys.values()) <= 150 + interrupted
    assert not DeadLetter.objects.exists()


def test_a_worker_that_is_asked_to_end_finishes_what_it_sends(workflow, receiver, workers, accept_many):
    workflow(concurrency_limit=2)
    receiver.always(wait=0.5)
    accept_many(30)
    process = workers.start(N8N_WEBHOOK_URL=receiver.url)
    receiver.wait_for(4)
    assert workers.end(process) < 15
    assert process.returncode == 0
    assert not Delivery.objects.filter(state="sending").exists()
    assert not Attempt.objects.filter(result="interrupted").exists()
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(all_in("delivered", 30), within=40, what="30 delivered")
    assert set(receiver.keys.values()) == {1}


def test_an_idle_worker_is_woken_at_once_and_a_delayed_delivery_is_on_time(workflow, receiver, workers, accept):
    import time
    from datetime import timedelta

    from reliability.core import clock

    workflow()
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    accept({"n": 0})
    receiver.wait_for(1)
    time.sleep(0.5)
    begun = time.time()
    accept({"n": 1})
    assert receiver.wait_for(2)[1].at - begun < 0.5
    due = time.time() + 3
    accept({"n": 2}, deliver_at=clock.now() + timedelta(seconds=3))
    assert 0 <= receiver.wait_for(3)[2].at - due < 0.5


def test_a_lost_wake_up_cannot_lose_a_delivery(workflow, receiver, workers, accept):
    workflow()
    accept()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    accept({"another": "lane"}, tenant="acme")
    receiver.wait_for(2)
    assert {one.headers["x-backstop-tenant"] for one in receiver.got} == {"default", "acme"}


def test_the_database_restarted_under_a_worker_stops_nothing(workflow, receiver, workers, accept_many):
    workflow(concurrency_limit=2, timeout_ms=1000)
    receiver.always(wait=0.05)
    accept_many(20)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    receiver.wait_for(4)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    until(all_in("delivered", 20), within=60, what="20 delivered")
