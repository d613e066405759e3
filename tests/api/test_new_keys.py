"""API keys made and revoked by API: shown once, worth no more than the key that makes them."""

from datetime import timedelta

import pytest
from django.test import Client

from reliability.core import clock
from reliability.models import ApiKey, AuditEntry, KeyScope

pytestmark = pytest.mark.django_db
URL = "/api/v1/api-keys/"


def client(plain: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {plain}"})


def make(api: Client, **body):
    return api.post(URL, {"name": "shop", **body}, content_type="application/json")


def test_a_key_is_shown_once_and_works_as_far_as_it_was_made(api):
    answer = make(api, tenant="acme", scopes=["read", "deliver", "read"], reason="the new shop")
    assert answer.status_code == 201, answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    shape = answer.json()
    plain = shape.pop("key")
    assert (shape["name"], shape["tenant"], shape["scopes"]) == ("shop", "acme", ["deliver", "read"])
    assert plain.startswith(shape["prefix"])
    listed = api.get(URL).json()["results"]
    assert listed[0].keys() == shape.keys()
    assert plain not in api.get(URL).content.decode()
    assert client(plain).get("/api/v1/deliveries/").status_code == 200
    assert client(plain).get("/api/v1/deliveries/?tenant=other").status_code == 403
    entry = AuditEntry.objects.get(action="issue_key")
    assert (entry.actor, entry.reason, entry.target_id) == ("key:test", "the new shop", shape["id"])
    assert plain not in str(entry.details)


def test_a_revoked_key_opens_nothing_and_stays_revoked(api):
    made = make(api).json()
    answer = api.post(f"{URL}{made['id']}/revoke/", {"reason": "leaked"}, content_type="application/json")
    assert answer.json()["revoked_at"]
    assert client(made["key"]).get("/api/v1/deliveries/").status_code == 401
    again = api.post(f"{URL}{made['id']}/revoke/", {}, content_type="application/json")
    assert again.json()["revoked_at"] == answer.json()["revoked_at"]
    assert AuditEntry.objects.get(action="revoke_key").reason == "leaked"


@pytest.mark.parametrize(
    ("own", "body", "status"),
    [
        (["operate"], {"scopes": ["operate"]}, 201),
        (["operate"], {"scopes": ["operate"], "tenant": "acme"}, 201),
        (["operate", "read"], {"scopes": ["read"]}, 201),
        (["operate"], {"scopes": ["read"]}, 403),
        (["operate"], {"scopes": []}, 403),
        (["operate"], {}, 403),
        (list(KeyScope.values), {}, 201),
        ([], {}, 201),
        (["read", "deliver", "report"], {"scopes": ["read"]}, 403),
    ],
)
def test_a_key_gives_no_scope_that_it_does_not_have(key, own, body, status):
    answer = make(client(key(scopes=own)), **body)
    assert answer.status_code == status, answer.json()
    assert ApiKey.objects.count() == 1 + (status == 201)


def test_a_key_that_ends_makes_none_that_outlives_it(key):
    who, end = client(key()), clock.now() + timedelta(days=1)
    ApiKey.objects.update(expires_at=end)
    assert make(who).status_code == 403
    assert make(who, expires_at=(end + timedelta(hours=1)).isoformat()).status_code == 403
    assert make(who, expires_at=(end - timedelta(hours=1)).isoformat()).status_code == 201


def test_a_tenants_key_makes_sees_and_revokes_none(key):
    who, other = client(key(tenant="acme")), ApiKey.issue(name="other")[0]
    assert who.get(URL).status_code == 403
    assert make(who, tenant="acme").status_code == 403
    assert who.post(f"{URL}{other.pk}/revoke/", {}, content_type="application/json").status_code == 403
    other.refresh_from_db()
    assert other.revoked_at is None


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": 5},
        {"tenant": "No Slug"},
        {"scopes": ["everything"]},
        {"scopes": "read"},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "soon"},
        {"key": "bsk_mine"},
        {"prefix": "bsk_mine"},
        {"name": "a\x00b"},
    ],
)
def test_what_makes_no_sense_is_refused(api, body):
    answer = make(api, **body)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert ApiKey.objects.count() == 1


def test_one_that_is_not_there_is_not_revoked(api):
    where = f"{URL}018f0000-0000-7000-8000-000000000000/revoke/"
    assert api.post(where, {}, content_type="application/json").status_code == 404
