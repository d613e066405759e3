"""The API of alerts and quiet periods."""

from datetime import timedelta

import pytest
from django.test import Client

from reliability.api.alerts import serializers
from reliability.core import clock
from reliability.models import Alert, AlertSilence, AuditEntry

pytestmark = pytest.mark.django_db
URL, QUIET = "/api/v1/alerts/", "/api/v1/alert-silences/"
NOBODY = "018f0000-0000-7000-8000-000000000000"


def post(api, path, body=None):
    return api.post(path, body or {}, content_type="application/json")


@pytest.fixture
def alert(db):
    def make(name="BreakerOpen", **values) -> Alert:
        now = clock.now()
        base = {"workflow": "echo", "tenant": "acme", "severity": "warning", "state": "firing", "value": 1, "limit": 0}
        return Alert.objects.create(name=name, **{**base, "firing_since": now, "checked_at": now, **values})

    return make


@pytest.fixture
def acme(key):
    return Client(headers={"Authorization": f"Bearer {key(tenant='acme')}"})


def names(answer) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [one["name"] for one in answer.json()["results"]]


def test_alerts_are_listed_filtered_and_shown_as_documented(alert, api):
    first = alert()
    alert("NoWorker", workflow="", tenant="", severity="critical", state="pending")
    assert names(api.get(URL)) == ["NoWorker", "BreakerOpen"]
    for query, found in (
        ("state=firing", ["BreakerOpen"]),
        ("severity=critical", ["NoWorker"]),
        ("workflow=echo&tenant=acme", ["BreakerOpen"]),
        ("name=NoWorker", ["NoWorker"]),
        ("name=BacklogOld", []),
    ):
        assert names(api.get(f"{URL}?{query}")) == found
    one = api.get(f"{URL}{first.pk}/").json()
    assert one.keys() == serializers.AlertSerializer().fields.keys()
    assert (one["id"], one["state"]) == (str(first.pk), "firing")


@pytest.mark.parametrize("query", ["state=ok", "name=Nonsense", "workflow=A!", "colour=red", "page_size=0"])
def test_a_senseless_filter_is_refused(api, query):
    assert api.get(f"{URL}?{query}").status_code == 400


def test_an_alert_is_acknowledged_until_a_moment(alert, api):
    made = alert()
    until = (clock.now() + timedelta(hours=2)).isoformat()
    found = post(api, f"{URL}{made.pk}/acknowledge/", {"reason": "on it", "until": until}).json()
    assert (found["acknowledged"], found["acknowledged_by"], found["acknowledged_reason"]) == (
        True,
        "key:test",
        "on it",
    )
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.target_id) == ("acknowledge_alert", "key:test", str(made.pk))


@pytest.mark.parametrize("body", [{"until": "2020-01-01T00:00:00Z"}, {"until": "x"}, {"extra": 1}, {"reason": 5}])
def test_a_senseless_acknowledgement_is_refused(alert, api, body):
    made = alert()
    assert post(api, f"{URL}{made.pk}/acknowledge/", body).status_code == 400
    made.refresh_from_db()
    assert not made.acknowledged


def test_what_does_not_fire_or_is_not_there_cannot_be_acknowledged(alert, api):
    assert post(api, f"{URL}{alert(state='resolved').pk}/acknowledge/").status_code == 409
    assert post(api, f"{URL}{NOBODY}/acknowledge/").status_code == 404


def test_a_tenant_sees_its_own_alone(alert, acme):
    own, other = alert(), alert(tenant="umbra")
    alert("NoWorker", workflow="", tenant="")
    assert names(acme.get(URL)) == ["BreakerOpen"]
    assert acme.get(f"{URL}{other.pk}/").status_code == 404
    assert post(acme, f"{URL}{other.pk}/acknowledge/").status_code == 404
    assert post(acme, f"{URL}{own.pk}/acknowledge/").status_code == 200
    for answer in (acme.get(QUIET), post(acme, QUIET, {}), post(acme, f"{QUIET}{NOBODY}/end/")):
        assert answer.status_code == 403


def test_a_quiet_period_begins_and_ends(workflow, api):
    workflow()
    until = (clock.now() + timedelta(hours=2)).isoformat()
    answer = post(api, QUIET, {"workflow": "echo", "alert": "BacklogOld", "until": until, "reason": "a move"})
    assert answer.status_code == 201
    made = answer.json()
    assert made.keys() == serializers.SilenceSerializer().fields.keys()
    assert (made["alert"], made["workflow"], made["reason"], made["created_by"]) == (
        *("BacklogOld", "echo", "a move"),
        "key:test",
    )
    assert [one["id"] for one in api.get(f"{QUIET}?active=true").json()["results"]] == [made["id"]]
    assert post(api, f"{QUIET}{made['id']}/end/", {"reason": "done"}).status_code == 200
    assert api.get(f"{QUIET}?active=true").json()["results"] == []
    assert len(api.get(f"{QUIET}?active=false").json()["results"]) == 1
    assert post(api, f"{QUIET}{NOBODY}/end/").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"until": "2099-01-01T00:00:00Z"},
        {"reason": "x"},
        {"until": "2020-01-01T00:00:00Z", "reason": "x"},
        {"until": "2099-01-01T00:00:00Z", "reason": "x", "workflow": "none"},
        {"until": "2099-01-01T00:00:00Z", "reason": "x", "alert": "Nonsense"},
        {"until": "2099-01-01T00:00:00Z", "reason": "x", "for": "ever"},
    ],
)
def test_a_senseless_quiet_period_is_refused(api, body):
    assert post(api, QUIET, body).status_code == 400
    assert not AlertSilence.objects.exists()


def test_a_key_that_reads_changes_nothing(alert, key):
    reader = Client(headers={"Authorization": f"Bearer {key(scopes=['read'])}"})
    made = alert()
    assert names(reader.get(URL)) == ["BreakerOpen"]
    assert post(reader, f"{URL}{made.pk}/acknowledge/").status_code == 403
    assert post(reader, QUIET, {"until": "2099-01-01T00:00:00Z", "reason": "x"}).status_code == 403
