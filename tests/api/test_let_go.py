"""What a request read and answered goes with its answer, and does not wait for the garbage collector."""

import gc
import json

import pytest
from rest_framework.request import Request
from rest_framework.views import APIView

from reliability.api.common.parsers import Document
from reliability.models import Delivery

pytestmark = pytest.mark.django_db
URL = "/api/v1/deliveries/"
ONE = {"workflow": "echo", "payload": {"order": 1}}
KINDS = (APIView, Request, Document, Delivery)  # not the answer: the test client ties that to itself


@pytest.fixture
def left(client_of, workflow):
    """Send a request while the collector rests; return the names of what is still there after its answer has gone."""
    workflow()
    client = client_of()

    def send(method, url, body):
        found = {id(one) for one in _kept()}
        answer = client.generic(method, url, body, content_type="application/json")
        status = answer.status_code
        del answer
        return status, sorted(type(one).__name__ for one in _kept() if id(one) not in found)

    send("GET", URL, "")  # what is made once is made now
    gc.collect()
    gc.disable()
    yield send
    gc.enable()


def _kept():
    return [one for one in gc.get_objects() if issubclass(type(one), KINDS)]  # to ask a lazy one would wake it


@pytest.mark.parametrize(
    ("method", "url", "body", "status"),
    [
        ("POST", f"{URL}batch/", json.dumps({"deliveries": [ONE, ONE]}), 201),
        ("POST", f"{URL}batch/", json.dumps({"deliveries": [ONE, {"workflow": "echo"}]}), 400),
        ("POST", URL, json.dumps(ONE), 201),
        ("POST", URL, json.dumps({**ONE, "expires_at": "2999-01-01T00:00:00Z"}), 201),
        ("GET", URL, "", 200),
    ],
    ids=["batch", "refused", "at once", "usual", "list"],
)
def test_nothing_is_left_of_a_request(left, method, url, body, status):
    assert left(method, url, body) == (status, [])
