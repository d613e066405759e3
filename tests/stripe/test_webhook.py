"""Stripe's webhooks over HTTP, in front of Django and within it."""

import io
import json

import pytest
from django.db import OperationalError, connection
from django.test import Client

from reliability.api.stripe import webhook
from reliability.models import Delivery, StripeEvent, StripeRefusal
from reliability.stripe import ledger

from ..support import stripe

pytestmark = pytest.mark.django_db
URL = "/stripe/webhook/"


@pytest.fixture(autouse=True)
def environment(settings):
    settings.STRIPE_WEBHOOK_SECRETS = [stripe.SECRET]
    ledger._cache.clear()
    yield
    ledger._cache.clear()


def within_django(path: str, body: bytes, headers: dict[str, str], method: str = "POST"):
    response = Client().generic(method, path, body, content_type="application/json", headers=headers)
    return response.status_code, dict(response.items()), response.content


def before_django(path: str, body: bytes, headers: dict[str, str], method: str = "POST"):
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    environ |= {"REQUEST_METHOD": method, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    said = []
    slug = webhook.slug_of(path)
    assert slug is not None
    content = b"".join(webhook.respond(environ=environ, slug=slug, start_response=lambda *got: said.append(got)))
    ((status, headers),) = said
    return int(status.split()[0]), dict(headers), content


@pytest.fixture(params=[within_django, before_django], ids=["within", "before"])
def post(request):
    return request.param


def signed(body: bytes, **options) -> dict[str, str]:
    return {"Stripe-Signature": stripe.sign(body, **options)}


@pytest.mark.parametrize("path", [URL, URL + "default/", URL + "default"])
def test_a_new_event_and_a_repeat(post, path):
    body = stripe.event()
    first, again = (post(path, body, signed(body)) for _ in range(2))
    assert (first[0], json.loads(first[2])) == (200, {"received": True, "duplicate": False})
    assert (again[0], json.loads(again[2])) == (200, {"received": True, "duplicate": True})
    assert first[1]["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        (URL, stripe.event(), lambda body: {}, 400, "missing"),
        (URL, stripe.event(), lambda body: signed(body, secret="whsec_x"), 400, "signature"),
        (URL, stripe.event(), lambda body: signed(body, at=1), 400, "stale"),
        (URL, b"{}", signed, 400, "invalid"),
        (URL, b"", lambda body: {}, 400, "missing"),
        (URL + "nobody/", stripe.event(), signed, 404, "unknown_endpoint"),
        (URL, b"x" * 10_000_000, signed, 413, "too_large"),
        (URL, stripe.event(), lambda body: {**signed(body), "Content-Encoding": "gzip"}, 415, "encoded_body"),
    ],
)
def test_a_refusal_is_a_problem_and_a_row(post, path, body, headers, status, reason):
    # Signed here, not while tests are collected: by now such a signature may be stale.
    code, said, content = post(path, body, headers(body))
    assert (code, said["Content-Type"]) == (status, "application/problem+json")
    assert json.loads(content)["status"] == status
    assert StripeRefusal.objects.get().reason == reason
    assert not StripeEvent.objects.exists()


def test_other_methods_are_not_allowed(post):
    code, said, _ = post(URL, b"", {}, method="GET")
    assert (code, said["Allow"]) == (405, "POST")


def test_without_a_secret_stripe_is_told_when_to_come_again(post, settings):
    settings.STRIPE_WEBHOOK_SECRETS = []
    body = stripe.event()
    code, said, _ = post(URL, body, signed(body))
    assert code == 503
    assert int(said["Retry-After"]) > 0


def test_paths_that_are_none_of_stripes():
    for path in ("/stripe/webhook", "/stripe/webhook/A/", "/stripe/webhook/a/b/", "/stripe/", "/x/stripe/webhook/"):
        assert webhook.slug_of(path) is None


def test_an_error_of_the_database_is_no_2xx(post, monkeypatch):
    def fail(**_):
        raise OperationalError("gone")

    monkeypatch.setattr(ledger, "record", fail)
    body = stripe.event()
    code, said, content = post(URL, body, signed(body))
    assert (code, json.loads(content)["status"]) == (503, 503)
    assert "gone" not in content.decode()
    assert int(said["Retry-After"]) > 0


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_cut_off_is_made_again(post):
    first, second = stripe.event(id="evt_1"), stripe.event(id="evt_2")
    assert post(URL, first, signed(first))[0] == 200
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    other.close()
    assert post(URL, second, signed(second))[0] == 200
    assert StripeEvent.objects.count() == 2


@pytest.mark.parametrize(
    ("trusted", "forwarded", "kept"),
    [(0, "198.51.100.1", "127.0.0.1"), (1, "198.51.100.1, 198.51.100.2", "198.51.100.2"), (2, "a", "127.0.0.1")],
)
def test_whence_a_refused_request_came(settings, trusted, forwarded, kept):
    settings.TRUSTED_PROXIES = trusted
    within_django(URL, b"", {"X-Forwarded-For": forwarded})
    assert StripeRefusal.objects.get().address == kept


@pytest.mark.django_db(transaction=True)
def test_an_event_with_a_nul_is_taken_delivered_and_shown(post, workflow, receiver, drain, admin_client, api):
    workflow("billing", stripe_events=["*"])
    body = stripe.event().replace(b'"object": "event",', b'"object": "event", "note": "a\\u0000b",', 1)
    assert post(URL, body, signed(body))[0] == 200
    drain()
    assert [got.body for got in receiver.got] == [body]
    event, delivery = StripeEvent.objects.get(), Delivery.objects.get()
    for path in (f"stripeevent/{event.pk}", f"delivery/{delivery.pk}"):
        page = admin_client.get(f"/admin/reliability/{path}/change/")
        assert page.status_code == 200
        assert "\x00" not in page.content.decode()
    assert api.get(f"/api/v1/deliveries/{delivery.pk}/").json()["payload"]["note"] == "a\x00b"
