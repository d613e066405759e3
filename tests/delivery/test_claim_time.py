"""A claim knows the database's time, whatever the clock of its machine says."""

import time
from datetime import timedelta

import pytest

from reliability.core import clock
from reliability.delivery import dispatch
from reliability.models import Attempt

pytestmark = pytest.mark.django_db(transaction=True)
HOUR = 3600


@pytest.fixture
def an_hour_ahead(monkeypatch):
    """Set this machine's clock an hour ahead of the database's."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + HOUR)


def test_the_time_of_a_claim_goes_on_from_the_databases(workflow, accept, an_hour_ahead):
    workflow()
    lane_id = accept().lane_id
    (claim,) = dispatch.run(lane_id=lane_id, sent=(), capacity=1).claims
    assert abs(claim.now() - clock.now()) < timedelta(seconds=1)
    before = claim.now()
    time.sleep(0.05)
    assert timedelta(seconds=0.04) < claim.now() - before < timedelta(seconds=2)


def test_the_signed_time_and_the_attempts_are_the_databases(workflow, receiver, drain, accept, an_hour_ahead):
    workflow(signing_secret="whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    begun = clock.now()
    accept()
    drain()
    (got,) = receiver.wait_for(1)
    stamp = int(got.headers["webhook-timestamp"])
    assert begun.timestamp() - 2 < stamp < clock.now().timestamp() + 2
    assert begun <= Attempt.objects.get().started_at <= clock.now()
