"""Lanes whose requests hang leave room for the others."""

import threading

import pytest

from reliability.delivery.dispatcher import Dispatcher
from reliability.models import DeliveryState
from tests.support.receiver import Reply

pytestmark = pytest.mark.django_db(transaction=True)


def test_hanging_lanes_do_not_take_the_threads_of_others(workflow, accept_many, accept, receiver):
    """Two lanes with a limit of eight each could fill all eight threads of this dispatcher."""
    hang = threading.Event()

    def rule(got) -> Reply:
        if got.path.startswith("/webhook/slow"):
            hang.wait(60)
        return Reply(200)

    receiver.rule = rule
    made = Dispatcher(capacity=8)
    try:
        for slug in ("slow-a", "slow-b"):
            workflow(slug, concurrency_limit=8, timeout_ms=60_000)
        slow = {one.lane_id for slug in ("slow-a", "slow-b") for one in accept_many(20, workflow=slug)}
        for lane_id in slow:
            made.process_lane(lane_id=lane_id)
        receiver.wait_for(7)  # six of one lane, and the first of the other
        workflow("quick")
        delivery = accept(workflow="quick")
        made.process_lane(lane_id=delivery.lane_id).result(timeout=30)
        delivery.refresh_from_db()
        assert delivery.state == DeliveryState.DELIVERED
    finally:
        hang.set()
        made.close()
