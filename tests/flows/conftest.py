"""n8n's REST API, and what it reports."""

import json

import pytest

from reliability.models import (
    DeadLetter,
    Delivery,
)

from ..support.bodies import failed
from ..support.n8n_api import KEY, FakeN8n
from .n8n_reports import look


@pytest.fixture
def n8n(settings):
    made = FakeN8n()
    settings.N8N_API_URL, settings.N8N_API_KEY = made.url, KEY
    yield made
    made.stop()


@pytest.fixture
def report(api):
    def call(body, client=None):
        return (client or api).post("/api/v1/executions/failed/", json.dumps(body), content_type="application/json")

    return call


@pytest.fixture
def send(api):
    def call(path, body=None):
        return api.post(f"/api/v1/dead-letters/{path}", json.dumps(body or {}), content_type="application/json")

    return call


@pytest.fixture
def delivered(workflow, receiver, drain, accept):
    """A delivery that n8n answered at once, before its work was done."""

    def make(**values) -> Delivery:
        made = accept({"n": 1}, **values)
        drain()
        made.refresh_from_db()
        assert made.state == "delivered"
        return made

    workflow()
    return make


@pytest.fixture
def letter(n8n, report):
    """A dead letter that n8n reported, of an execution that n8n keeps."""

    def make(number="2") -> DeadLetter:
        n8n.add(number)
        assert report(failed(number)).status_code == 201
        look()
        return DeadLetter.objects.get(execution_id=number)

    return make
