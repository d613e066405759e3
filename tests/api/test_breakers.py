"""The API of breakers."""

import pytest

from reliability.models import Breaker, Scope

pytestmark = pytest.mark.django_db
URL = "/api/v1/breakers/"


def post(api, path, body=None):
    return api.post(URL + path, body or {}, content_type="application/json")


def test_the_list_shows_lanes_and_the_instance(workflow, accept, api):
    workflow(circuit_breaker_threshold=7)
    accept()
    accept({"n": 2})
    found = {one["scope"]: one for one in api.get(URL).json()["results"]}
    lane = found["lane"]
    assert set(lane) == {
        "id",
        "workflow",
        "tenant",
        "scope",
        "state",
        "reason",
        "failures",
        "threshold",
        "opened_at",
        "next_probe_at",
        "waiting",
    }
    assert (lane["workflow"], lane["tenant"], lane["state"], lane["threshold"]) == (
        "echo",
        "default",
        "closed",
        7,
    )
    assert (lane["failures"], lane["waiting"]) == (0, 2)
    assert (found["instance"]["workflow"], found["instance"]["waiting"]) == (None, 2)


def test_force_open_and_reset(workflow, accept, api):
    workflow()
    accept()
    pk = Breaker.objects.get(scope=Scope.LANE).pk
    opened = post(api, f"{pk}/force-open/", {"reason": "n8n upgrade"}).json()
    assert (opened["state"], opened["reason"]) == ("forced_open", "n8n upgrade")
    assert opened["opened_at"]
    closed = post(api, f"{pk}/reset/", {"reason": "done"}).json()
    assert closed["state"] == "closed"
    changes = Breaker.objects.get(pk=pk).transitions.order_by("id")
    assert [(one.to_state, one.reason, one.actor) for one in changes] == [
        ("forced_open", "n8n upgrade", "key:test"),
        ("closed", "done", "key:test"),
    ]


def test_the_instance_can_be_held_open_too(api):
    api.get(URL)
    pk = Breaker.objects.get(scope=Scope.INSTANCE).pk
    assert post(api, f"{pk}/force-open/").json()["state"] == "forced_open"
    assert post(api, f"{pk}/reset/").json()["state"] == "closed"


@pytest.mark.parametrize("body", [{"until": "2020-01-01T00:00:00Z"}, {"until": "x"}, {"extra": 1}, {"reason": 5}])
def test_bad_input(workflow, accept, api, body):
    workflow()
    accept()
    pk = Breaker.objects.get(scope=Scope.LANE).pk
    assert post(api, f"{pk}/force-open/", body).status_code == 400
    assert Breaker.objects.get(pk=pk).state == "closed"


def test_an_unknown_one_is_not_found(api):
    assert post(api, "018f0000-0000-7000-8000-000000000000/reset/").status_code == 404
