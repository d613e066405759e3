"""What a dispatcher does with a lane when a wait for the database is cut off by its limit."""

import time
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection

from config.database import roles
from config.database.roles import Role
from reliability import queue
from reliability.delivery.dispatcher import Dispatcher
from reliability.models import Delivery, DeliveryState, Lane

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def other():
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}, autocommit=True) as made:
        yield made


@pytest.fixture
def dispatcher(monkeypatch):
    """A dispatcher in a process whose waits for a lock end after half a second."""
    monkeypatch.setattr(roles, "_process", Role("hurried", 1.0))
    made = Dispatcher(capacity=8)
    yield made
    made.close()


@contextmanager
def held(other, statement: str, *values):
    with other.transaction():
        other.execute(statement, values)
        yield


def test_a_lane_is_not_left_before_its_barrier_is_passed(other, workflow, accept, receiver, dispatcher):
    """Who relied on the wake-up has not committed yet: to leave now would miss what it adds."""
    workflow()
    delivery = accept()
    lane = Lane.objects.get()
    with held(other, "SELECT pg_advisory_xact_lock_shared(%s, %s)", queue.LANE_LOCK, lane.pk):
        turn = dispatcher.process_lane(lane_id=lane.pk)
        assert len(receiver.wait_for(1)) == 1  # what is there already does not wait for it
        time.sleep(2.5)
        assert not turn.done()
    turn.result(timeout=60)
    assert len(receiver.got) == 1
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.DELIVERED


def test_results_that_could_not_be_settled_in_time_are_settled_later_and_sent_once(
    other, workflow, accept_many, receiver, dispatcher
):
    workflow(concurrency_limit=4)
    accept_many(4)
    lane = Lane.objects.get()
    receiver.always(wait=0.5)
    dispatcher.process_lane(lane_id=lane.pk)
    receiver.wait_for(4)
    with held(other, "SELECT 1 FROM reliability_lane WHERE id = %s FOR UPDATE", lane.pk):
        time.sleep(2.5)
        assert set(Delivery.objects.values_list("state", flat=True)) == {DeliveryState.SENDING}
    deadline = time.monotonic() + 60
    while Delivery.objects.exclude(state=DeliveryState.DELIVERED).exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert set(receiver.keys.values()) == {1}
