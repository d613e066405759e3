"""A repeat is known by its payload's JSON value."""

import hashlib

import pytest

from reliability.models import Delivery

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/v1/deliveries/"


@pytest.fixture
def send(workflow, api):
    workflow()

    def call(payload):
        body = f'{{"workflow": "echo", "payload": {payload}, "idempotency_key": "k"}}'
        return api.post(URL, body, content_type="application/json")

    return call


@pytest.mark.parametrize("again", ['{"n": 1}', '{"n": 1e0}', '{"\\u006e": 10E-1}', ' {"n":1.0} '])
def test_another_spelling_is_a_repeat(send, again):
    first = send('{"n": 1.0}')
    answer = send(again)
    assert (first.status_code, answer.status_code) == (201, 200)
    assert answer.json()["id"] == first.json()["id"]
    assert Delivery.objects.get().payload == '{"n": 1.0}'


@pytest.mark.parametrize("other", ['{"n": 1.0000000000000000001}', '{"n": "1"}', '{"n": true}', '{"n": 2}'])
def test_another_value_is_a_conflict(send, other):
    assert send('{"n": 1.0}').status_code == 201
    assert send(other).status_code == 409


def test_a_digest_that_an_earlier_version_wrote_makes_no_conflict(send):
    assert send('{"n": 1.0}').status_code == 201
    Delivery.objects.update(payload_digest=hashlib.sha256(b'{"n":1.0}').digest())
    assert send('{"n": 1.0}').status_code == 200
    assert send('{"n": 2.0}').status_code == 409
    Delivery.objects.update(payload="")  # erased: what it was can no longer be told
    assert send('{"n": 1.0}').status_code == 409
