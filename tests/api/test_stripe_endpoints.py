"""Stripe's endpoints and secrets by API: made, changed, rotated, and never answered with."""

import pytest
from django.test import Client

from reliability.models import AuditEntry, StripeEndpoint, StripeSecret

pytestmark = pytest.mark.django_db
URL = "/api/v1/stripe-endpoints/"
SECRET = "whsec_" + "s" * 32


def send(api: Client, method: str, path: str, **body):
    return getattr(api, method)(URL + path, body, content_type="application/json")


def test_an_endpoint_is_made_changed_and_given_a_secret_that_is_rotated(api):
    made = send(api, "post", "", slug="shop", tenant="acme", mode="live", api_key="rk_live_1", reason="a new shop")
    assert made.status_code == 201, made.json()
    shape = {"endpoint": "shop", "tenant": "acme", "mode": "live", "account": "", "enabled": True, "has_api_key": True}
    assert {name: made.json()[name] for name in shape} == shape
    first = send(api, "post", "shop/secrets/", secret=SECRET + "old1").json()
    second = send(api, "post", "shop/secrets/", secret=SECRET + "new2", reason="rotated")
    assert (second.status_code, second.json()["hint"], second.json()["active"]) == (201, "new2", True)
    retired = send(api, "post", f"shop/secrets/{first['id']}/retire/")
    assert (retired.status_code, retired.json()["active"]) == (200, False)
    changed = send(api, "patch", "shop/", enabled=False, api_key="")
    assert changed.json() == api.get(f"{URL}shop/").json()
    assert (changed.json()["enabled"], changed.json()["has_api_key"], changed.json()["mode"]) == (False, False, "live")
    assert [one["active"] for one in changed.json()["secrets"]] == [True, False]
    assert [one["endpoint"] for one in api.get(URL).json()["results"]] == ["shop"]
    assert list(AuditEntry.objects.order_by("id").values_list("action", "reason")) == [
        ("create_stripe_endpoint", "a new shop"),
        ("add_stripe_secret", ""),
        ("add_stripe_secret", "rotated"),
        ("retire_stripe_secret", ""),
        ("change_stripe_endpoint", ""),
    ]
    told = str(list(AuditEntry.objects.values())) + api.get(URL).content.decode() + second.content.decode()
    assert SECRET not in told
    assert "rk_live_1" not in told
    assert set(AuditEntry.objects.values_list("actor", flat=True)) == {"key:test"}


CALLS = [
    ("get", ""),
    ("post", ""),
    ("get", "shop/"),
    ("patch", "shop/"),
    ("post", "shop/secrets/"),
    ("post", "shop/secrets/018f0000-0000-7000-8000-000000000000/retire/"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("values", [{"tenant": "acme"}, {"scopes": ["read", "deliver", "report"]}])
def test_a_tenants_key_and_one_without_the_scope_reach_nothing(key, method, path, values):
    StripeEndpoint.objects.create(slug="shop", tenant="acme")
    who = Client(headers={"Authorization": f"Bearer {key(**values)}"})
    body = {} if method == "get" else {"slug": "other", "secret": SECRET, "enabled": False}
    assert send(who, method, path, **body).status_code == 403
    assert StripeEndpoint.objects.get().enabled
    assert not StripeSecret.objects.exists()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("post", "", {"slug": "shop"}, 400),
        ("post", "", {"slug": "No Slug"}, 400),
        ("post", "", {"slug": "new", "mode": "both"}, 400),
        ("post", "", {"slug": "new", "secret": SECRET}, 400),
        ("post", "", {}, 400),
        ("patch", "shop/", {}, 400),
        ("patch", "shop/", {"slug": "other"}, 400),
        ("patch", "shop/", {"enabled": "perhaps"}, 400),
        ("patch", "none/", {"enabled": False}, 404),
        ("get", "none/", {}, 404),
        ("post", "none/secrets/", {"secret": SECRET}, 404),
        ("post", "shop/secrets/", {"secret": "sk_live_1"}, 400),
        ("post", "shop/secrets/", {"secret": SECRET + "kept"}, 400),
        ("post", "shop/secrets/018f0000-0000-7000-8000-000000000000/retire/", {}, 404),
    ],
)
def test_what_makes_no_sense_is_refused(api, method, path, body, status):
    made = StripeEndpoint.objects.create(slug="shop")
    StripeSecret.objects.create(endpoint=made, secret=SECRET + "kept")
    answer = send(api, method, path, **body)
    assert answer.status_code == status, answer.content
    assert SECRET not in answer.content.decode()
    assert (StripeEndpoint.objects.count(), StripeSecret.objects.count()) == (1, 1)


def test_a_secret_is_retired_at_its_own_endpoint_alone(api):
    other = StripeEndpoint.objects.create(slug="other")
    StripeEndpoint.objects.create(slug="shop")
    secret = StripeSecret.objects.create(endpoint=other, secret=SECRET)
    assert send(api, "post", f"shop/secrets/{secret.pk}/retire/").status_code == 404
    secret.refresh_from_db()
    assert secret.active
