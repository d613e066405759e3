"""One open foreign transaction that holds something of a lane delays nothing but what it holds."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from django.db import connection

from reliability import queue
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import replay
from reliability.lanes import breakers
from reliability.models import Attempt, Breaker, DeadLetter, Delivery, Lane, Scope

from ..support.receiver import Reply, until
from ..support.workers import database_url

pytestmark = pytest.mark.django_db(transaction=True)

# Generous: what is tested is that the wait does not last as long as the lock, and 'never' is 20 s and more.
SOON = 10.0
ACTOR = Actor("operator", "a test")


@contextmanager
def held(statement: str, *parameters: object) -> Iterator[psycopg.Connection]:
    """Another session's open transaction, which has run a statement."""
    with psycopg.connect(database_url()) as session:
        session.execute(statement, parameters)
        yield session
        session.rollback()


def lane_of(slug: str) -> Lane:
    return Lane.objects.get(workflow__slug=slug, tenant="default")


@pytest.fixture
def two(workflow, receiver, workers, accept):
    """Lanes `a` and `b`, both known to a worker that has nothing to do."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")  # killed workers of other tests leave theirs
    for slug in "ab":
        workflow(slug, concurrency_limit=4)
        accept({"first": slug}, workflow=slug)
    process = workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: Delivery.objects.filter(state="delivered").count() == 2, what="the worker to be ready")
    until(lambda: not doing(), what="the worker to be idle")
    return process


def doing() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing' OR queueing_lock LIKE 'lane:%'")
        return int(cursor.fetchone()[0])


def is_delivered(delivery: Delivery) -> bool:
    return bool(Delivery.objects.filter(pk=delivery.pk, state="delivered").exists())


LANE_LOCKS = {
    "the lane's row": "SELECT 1 FROM reliability_lane WHERE id = %s FOR NO KEY UPDATE",
    "the lane's advisory lock": f"SELECT pg_advisory_xact_lock({queue.LANE_LOCK}, %s)",
    "the lane's advisory lock, shared": f"SELECT pg_advisory_xact_lock_shared({queue.LANE_LOCK}, %s)",
    "the lane's deliveries": "SELECT 1 FROM reliability_delivery WHERE lane_id = %s FOR UPDATE",
    "the lane's attempts": """SELECT 1 FROM reliability_attempt a JOIN reliability_delivery d ON d.id = a.delivery_id
        WHERE d.lane_id = %s FOR UPDATE""",
    "the lane's total": "SELECT 1 FROM reliability_lanetotal WHERE lane_id = %s FOR UPDATE",
    "the lane's roll-ups": "SELECT 1 FROM reliability_rollup WHERE lane_id = %s FOR UPDATE",
    "a wake-up of the lane that is not committed": "SELECT backstop_wake(%s), backstop_wake_at(%s, now())",
}


@pytest.mark.parametrize("what", LANE_LOCKS)
def test_a_lane_that_another_session_holds_delays_no_other(two, receiver, accept, what):
    statement = LANE_LOCKS[what]
    receiver.rule = lambda got: Reply(wait=0.2)
    pending = accept({"n": 0}, workflow="a", deliver_at=clock.now() + timedelta(seconds=1))
    with held(statement, *[lane_of("a").pk] * statement.count("%s")):
        mine = accept({"n": 1}, workflow="a") if "row" not in what else pending
        time.sleep(1.2)  # the worker has tried
        for n in range(3):
            other = accept({"n": n}, workflow="b")
            until(lambda other=other: is_delivered(other), within=SOON, what="the other lane's delivery")
    until(lambda: is_delivered(mine) and is_delivered(pending), within=SOON, what="the locked lane's, once it is free")
    assert not DeadLetter.objects.exists()


def test_what_came_back_for_a_lane_is_kept_while_it_is_locked(two, receiver, accept_many, accept):
    """Sent once, settled once the lane is free: nothing of it is lost, and nothing is sent a second time."""
    release = threading.Event()
    receiver.rule = lambda got: Reply(wait=0) if got.path.endswith("b") or release.wait(30) else Reply()
    made = accept_many(4, workflow="a")
    receiver.wait_for(2 + 4)
    with held("SELECT 1 FROM reliability_lane WHERE id = %s FOR NO KEY UPDATE", lane_of("a").pk):
        release.set()
        time.sleep(1)
        other = accept({"n": 1}, workflow="b")
        until(lambda: is_delivered(other), within=SOON, what="the other lane's delivery")
        assert Delivery.objects.filter(state="sending").count() == 4
    until(lambda: all(is_delivered(one) for one in made), within=SOON, what="the settling")
    assert set(receiver.keys.values()) == {1}
    assert not Attempt.objects.exclude(result="delivered").exists()


def test_one_delivery_that_is_locked_keeps_no_other_of_its_lane_from_being_settled(two, receiver, accept_many):
    release = threading.Event()
    receiver.rule = lambda got: Reply(200 if release.wait(30) else 500)
    made = accept_many(4, workflow="a")
    receiver.wait_for(2 + 4)
    stuck, *others = made
    with held("SELECT 1 FROM reliability_delivery WHERE id = %s FOR UPDATE", stuck.pk):
        release.set()
        until(lambda: all(is_delivered(one) for one in others), within=SOON, what="the others")
        more = accept_many(2, workflow="a")
        until(lambda: all(is_delivered(one) for one in more), within=SOON, what="what came later")
        assert not is_delivered(stuck)
    until(lambda: is_delivered(stuck), within=SOON, what="the one that was locked")
    assert set(receiver.keys.values()) == {1}


def test_a_lease_that_ran_out_on_a_locked_delivery_holds_up_nothing(two, workflow, receiver, workers, accept):
    workflow("c", timeout_ms=100)
    receiver.rule = lambda got: Reply(wait=30 if got.path.endswith("c") and len(receiver.got) < 4 else 0)
    first = accept({"n": 0}, workflow="c")
    receiver.wait_for(3)
    workers.kill(two)
    Delivery.objects.filter(pk=first.pk).update(lease_until=clock.now() - timedelta(seconds=1))
    with held("SELECT 1 FROM reliability_delivery WHERE id = %s FOR UPDATE", first.pk):
        workers.start(N8N_WEBHOOK_URL=receiver.url)
        for slug in "cb":
            other = accept({"n": 1}, workflow=slug)
            until(lambda other=other: is_delivered(other), within=3 * SOON, what=f"another in lane {slug}")
    until(lambda: is_delivered(first), within=SOON, what="the one that was locked")


def test_a_dead_letter_that_is_locked_delays_its_own_replay_alone(two, receiver, accept):
    receiver.rule = lambda got: Reply(422 if got.json.get("n") == "bad" else 200)
    bad = accept({"n": "bad"}, workflow="a")
    until(DeadLetter.objects.exists, what="the dead letter")
    letter = DeadLetter.objects.get()
    receiver.rule = lambda got: Reply(wait=0.3)
    replay.replay(dead_letter_id=letter.pk, actor=ACTOR, now=clock.now())
    receiver.wait_for(4)
    with held("SELECT 1 FROM reliability_deadletter WHERE id = %s FOR UPDATE", letter.pk):
        for slug in "ab":
            other = accept({"n": slug}, workflow=slug)
            until(lambda other=other: is_delivered(other), within=SOON, what=f"another in lane {slug}")
        assert DeadLetter.objects.get().status == "replaying"
    until(lambda: DeadLetter.objects.get().status == "recovered", within=SOON, what="the replay's end")
    assert bad.pk == letter.delivery_id


def test_the_instance_s_breaker_that_is_locked_delays_nothing(two, receiver, accept):
    """What it would have been told is told once it is free."""
    breakers.instance()
    receiver.rule = lambda got: Reply(0 if got.headers["x-backstop-attempt"] == "1" else 200)
    with held("SELECT 1 FROM reliability_breaker WHERE scope = %s FOR UPDATE", Scope.INSTANCE):
        failing, other = accept({"n": 1}, workflow="a"), accept({"n": 1}, workflow="b")
        until(lambda: is_delivered(failing) and is_delivered(other), within=SOON, what="both")
        assert not Breaker.objects.get(scope=Scope.INSTANCE).suspects
    until(lambda: Breaker.objects.get(scope=Scope.INSTANCE).suspects, within=SOON, what="the breaker to be told")


def test_a_lane_that_is_nearly_always_locked_gets_its_turn(two, accept):
    """Sessions take turns at its row, so that no try without waiting finds it free for long."""
    ended = threading.Event()
    lock, lane = LANE_LOCKS["the lane's row"], lane_of("a").pk

    def hog() -> None:
        with psycopg.connect(database_url()) as session:
            while not ended.is_set():
                session.execute(lock, [lane])
                time.sleep(0.04)
                session.commit()

    hogs = [threading.Thread(target=hog) for _ in range(3)]
    for one in hogs:
        one.start()
    try:
        made = [accept({"n": n}, workflow="a") for n in range(3)]
        until(lambda: all(is_delivered(one) for one in made), within=3 * SOON, what="the locked lane's deliveries")
    finally:
        ended.set()
        for one in hogs:
            one.join()


def test_what_committed_late_under_a_promise_is_not_lost(two, workflow, receiver, accept):
    """A transaction that relied on a dispatcher's promise commits long after: the lane is looked at again."""
    lane = lane_of("a")
    Lane.objects.filter(pk=lane.pk).update(attended_until=clock.now() + timedelta(hours=1))
    statement = """
        INSERT INTO reliability_delivery (id, lane_id, idempotency_key, payload, payload_digest, state, source,
            attempt_count, retries_used, due_at, created_at, last_error)
        VALUES (gen_random_uuid(), %s, 'late', '{}', '\\x00', 'pending', 'api', 0, 0, now(), now(), '')
    """
    with psycopg.connect(database_url()) as session:
        session.execute(statement, [lane.pk])
        session.execute("SELECT backstop_wake(%s)", [lane.pk])
        planned = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo' AND queueing_lock = %s"
        assert session.execute(planned, [f"lane:{lane.pk}"]).fetchone() == (0,)
        with connection.cursor() as cursor:  # a wake-up that others brought
            cursor.execute("SELECT backstop_requeue(%s, interval '0')", [lane.pk])
        until(lambda: Lane.objects.get(pk=lane.pk).attended_until is None, within=SOON, what="the promise's end")
        time.sleep(2)
        session.commit()
    until(lambda: receiver.keys["late"] == 1, within=SOON, what="the late one")


def test_the_api_answers_while_a_lane_is_locked(two, api, accept):
    """It waits for the lane's row no longer than its session's limit, and says that it is busy."""
    accept({"n": 1}, workflow="a", deliver_at=clock.now() + timedelta(hours=1))
    with held(LANE_LOCKS["the lane's row"], lane_of("a").pk), connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
        body = json.dumps({"workflow": "a"})
        try:
            answer = api.post("/api/v1/slots/", body, content_type="application/json")
        finally:
            cursor.execute("RESET lock_timeout")
    assert answer.status_code == 503
    assert "Retry-After" in answer
