"""The API of breakers."""

import pytest

from reliability.models import Breaker, Scope, Workflow

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


@pytest.fixture
def several(workflow, accept):
    """Breakers of three lanes, of which one is open."""
    for slug, tenant in (("echo", "default"), ("echo", "acme"), ("other", "acme")):
        if not Workflow.objects.filter(slug=slug).exists():
            workflow(slug)
        accept(workflow=slug, tenant=tenant)
    Breaker.objects.filter(lane__workflow__slug="other").update(state="open")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {("echo", "default"), ("echo", "acme"), ("other", "acme"), (None, None)}),
        ("workflow=echo", {("echo", "default"), ("echo", "acme")}),
        ("tenant=acme", {("echo", "acme"), ("other", "acme")}),
        ("workflow=echo&tenant=acme", {("echo", "acme")}),
        ("state=open", {("other", "acme")}),
        ("state=forced_open", set()),
        ("scope=instance", {(None, None)}),
        ("scope=lane&state=closed", {("echo", "default"), ("echo", "acme")}),
        ("workflow=nowhere", set()),
    ],
)
def test_the_list_is_filtered(several, api, query, found):
    rows, address = [], f"/api/v1/breakers/?{query}&page_size=2"
    while address:
        answer = api.get(address)
        assert answer.status_code == 200, answer.content
        rows += answer.json()["results"]
        address = answer.json()["next"]
    assert len(rows) == len(found)
    assert {(one["workflow"], one["tenant"]) for one in rows} == found


@pytest.mark.parametrize("query", ["state=ajar", "scope=all", "workflow=No+Slug", "tenant=", "colour=red"])
def test_a_filter_that_makes_no_sense_is_refused(several, api, query):
    assert api.get(f"/api/v1/breakers/?{query}").status_code == 400


def test_a_tenants_key_filters_within_its_own(several, client_of):
    acme = client_of("acme")
    assert len(acme.get("/api/v1/breakers/?workflow=echo").json()["results"]) == 1
    assert acme.get("/api/v1/breakers/?scope=instance").json()["results"] == []
    assert acme.get("/api/v1/breakers/?tenant=default").status_code == 403
