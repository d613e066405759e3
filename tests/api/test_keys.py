"""API keys: hashed, scoped, bound to a tenant, revocable."""

from datetime import timedelta

import pytest
from django.test import Client

from reliability.core import clock
from reliability.models import ApiKey, AuditEntry, Breaker, DeadLetter, Delivery

pytestmark = pytest.mark.django_db
URL = "/api/v1/deliveries/"
BODY = {"workflow": "echo", "payload": {"a": 1}}


def client(plain: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {plain}"})


def test_the_key_is_kept_hashed_and_its_prefix_shows(key):
    plain = key()
    row = ApiKey.objects.get()
    assert plain not in {str(value) for value in vars(row).values()}
    assert plain.startswith(row.prefix)
    assert len(row.prefix) < len(plain) / 2


@pytest.mark.parametrize("shown", ["", "nonsense", "bsk_" + "x" * 43, "\xff\xfe", "x" * 100_000, "a\x00b"])
def test_any_other_key_is_refused(key, shown):
    key()
    response = client(shown).get(URL)
    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "WWW-Authenticate" in response.headers


def test_the_right_prefix_alone_does_not_open(key):
    plain = key()
    assert client(plain[:12] + "x" * (len(plain) - 12)).get(URL).status_code == 401


def test_keys_are_compared_in_constant_time(key, monkeypatch):
    from reliability.models import access

    compared = []
    monkeypatch.setattr(access.hmac, "compare_digest", lambda a, b: compared.append(1) or a == b)
    client(key()).get(URL)
    assert compared


@pytest.mark.parametrize(("field", "offset"), [("revoked_at", -1), ("expires_at", -1)])
def test_an_ended_key_is_refused(key, field, offset):
    plain = key()
    ApiKey.objects.update(**{field: clock.now() + timedelta(seconds=offset)})
    assert client(plain).get(URL).status_code == 401


def test_use_is_noted_but_not_with_every_request(key, django_assert_num_queries):
    plain = key()
    client(plain).get(URL)
    assert ApiKey.objects.get().last_used_at is not None
    with django_assert_num_queries(2):
        client(plain).get(URL)


SCOPES = [
    ("get", URL, "read"),
    ("post", URL, "deliver"),
    ("post", URL + "batch/", "deliver"),
    ("post", URL + "018f0000-0000-7000-8000-000000000000/cancel/", "deliver"),
    ("get", "/api/v1/dead-letters/", "read"),
    ("post", "/api/v1/dead-letters/", "report"),
    ("post", "/api/v1/dead-letters/replay/", "operate"),
    ("post", "/api/v1/dead-letters/purge/", "operate"),
    ("delete", "/api/v1/dead-letters/018f0000-0000-7000-8000-000000000000/", "operate"),
    ("get", "/api/v1/breakers/", "read"),
    ("post", "/api/v1/breakers/018f0000-0000-7000-8000-000000000000/reset/", "operate"),
]


@pytest.mark.parametrize(("method", "path", "scope"), SCOPES)
def test_each_call_needs_its_scope(key, method, path, scope):
    for own in ("read", "deliver", "report", "operate"):
        status = getattr(client(key(scopes=[own])), method)(path, content_type="application/json").status_code
        assert (status == 403) == (own != scope), own


@pytest.fixture
def two_tenants(workflow, accept):
    workflow()
    for tenant in ("acme", "globex"):
        made = accept(tenant=tenant)
        now = clock.now()
        DeadLetter.objects.create(
            lane=made.lane,
            delivery=made,
            source="delivery",
            payload="{}",
            created_at=now,
            died_at=now,
            expires_at=now,
        )


def test_a_tenants_key_reaches_its_own_rows_alone(two_tenants, key):
    acme = client(key(tenant="acme"))
    for path in (URL, "/api/v1/dead-letters/", "/api/v1/breakers/"):
        found = acme.get(path).json()["results"]
        assert [one["tenant"] for one in found] == ["acme"], path
        assert acme.get(path + "?tenant=globex").status_code in (400, 403), path
    foreign = Delivery.objects.get(lane__tenant="globex")
    letter = DeadLetter.objects.get(lane__tenant="globex")
    breaker = Breaker.objects.get(lane__tenant="globex")
    for method, path in [
        ("get", f"{URL}{foreign.pk}/"),
        ("post", f"{URL}{foreign.pk}/cancel/"),
        ("get", f"/api/v1/dead-letters/{letter.pk}/"),
        ("delete", f"/api/v1/dead-letters/{letter.pk}/"),
        ("post", f"/api/v1/dead-letters/{letter.pk}/replay/"),
        ("post", f"/api/v1/breakers/{breaker.pk}/reset/"),
        ("post", f"/api/v1/breakers/{breaker.pk}/force-open/"),
    ]:
        assert getattr(acme, method)(path, content_type="application/json").status_code == 404, path
    answer = acme.post("/api/v1/dead-letters/purge/", {"filter": {}}, content_type="application/json")
    assert answer.json()["count"] == 1
    answer = acme.post("/api/v1/dead-letters/purge/", {"filter": {"tenant": "globex"}}, content_type="application/json")
    assert answer.status_code == 403


def test_a_tenants_key_delivers_for_its_tenant(workflow, key):
    workflow()
    acme = client(key(tenant="acme"))
    made = acme.post(URL, BODY, content_type="application/json")
    assert made.json()["tenant"] == "acme"
    other = acme.post(URL, {**BODY, "tenant": "globex"}, content_type="application/json")
    assert other.status_code == 403
    batch = {"deliveries": [BODY, {**BODY, "tenant": "globex"}]}
    assert acme.post(URL + "batch/", batch, content_type="application/json").status_code == 403
    assert Delivery.objects.count() == 1


def test_an_operators_action_is_in_the_audit_log(two_tenants, key):
    breaker = Breaker.objects.get(lane__tenant="acme")
    who = client(key(name="pager"))
    body = {"reason": "upgrade"}
    who.post(f"/api/v1/breakers/{breaker.pk}/force-open/", body, content_type="application/json")
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.reason) == ("key:pager", "force_open_breaker", "upgrade")
    assert (entry.target_type, entry.target_id) == ("breaker", str(breaker.pk))
