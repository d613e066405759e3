"""Figures of executions, reported by the API."""

import json

import pytest

from reliability.models import Execution

FIGURES = "/api/v1/executions/"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def report(api):
    def call(body, client=None, url=FIGURES, **headers):
        return (client or api).post(url, json.dumps(body), content_type="application/json", headers=headers)

    return call


FIGURE = {"workflow": "echo", "execution_id": "5", "status": "success", "duration_ms": 1200}


def test_figures_are_kept_once_and_repeated(workflow, report):
    workflow()
    first, second = report(FIGURE), report({**FIGURE, "duration_ms": None})
    assert (first.status_code, second.status_code) == (201, 200)
    shape = first.json()
    assert {name: shape[name] for name in FIGURE} == FIGURE
    assert second.json()["duration_ms"] == 1200
    assert report({**FIGURE, "tenant": "acme"}).status_code == 201


def test_what_is_told_late_does_not_undo_an_end(workflow, report):
    workflow()
    report(FIGURE)
    assert report({**FIGURE, "status": "running"}).json()["status"] == "success"


def test_figures_feed_the_lanes_breaker_once_each(workflow, report, lane_breaker):
    workflow(circuit_breaker_threshold=2)
    for status in ("running", "error", "error", "success"):
        report({**FIGURE, "status": status})
    assert lane_breaker().state == "closed"
    report({**FIGURE, "execution_id": "6", "status": "crashed"})
    assert lane_breaker().state == "open"


def test_a_probes_figures_close_the_breaker(workflow, report, lane_breaker, accept):
    from reliability.models import Breaker

    workflow()
    accept()
    Breaker.objects.filter(pk=lane_breaker().pk).update(state="half_open")
    report(FIGURE)
    assert lane_breaker().state == "half_open"
    report({**FIGURE, "execution_id": "6", "probe": True})
    assert lane_breaker().state == "closed"


def test_figures_of_a_delivery_leave_the_breaker_to_its_attempts(workflow, report, sent, lane_breaker):
    workflow(circuit_breaker_threshold=1)
    made = sent("pending")
    assert report({**FIGURE, "status": "error", "delivery": str(made.pk)}).status_code == 201
    assert lane_breaker().state == "closed"
    assert Execution.objects.get().delivery_id == made.pk


@pytest.mark.parametrize(
    "change",
    [
        {"status": "nope"},
        {"workflow": "nope"},
        {"execution_id": ""},
        {"execution_id": "5" * 201},
        {"duration_ms": -1},
        {"duration_ms": 2**31},
        {"duration_ms": "long"},
        {"delivery": "no-uuid"},
        {"probe": "maybe"},
        {"more": 1},
        {"status": None},
    ],
    ids=str,
)
def test_bad_figures(workflow, report, change):
    workflow()
    assert report({**FIGURE, **change}).status_code == 400
    assert not Execution.objects.exists()


def test_figures_name_no_other_tenants_or_workflows_delivery(workflow, report, sent, client_of):
    workflow()
    workflow("other")
    made = sent("pending", tenant="acme")
    body = {**FIGURE, "delivery": str(made.pk)}
    assert report(body, client_of("beta"), FIGURES).status_code == 404
    assert report({**body, "tenant": "acme", "workflow": "other"}).status_code == 400
    assert report({**body, "tenant": "acme"}).status_code == 201
