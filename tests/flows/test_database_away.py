"""While the database is away, each interface says when to come again, and nothing is answered as kept that was not."""

import json

import psycopg
import pytest
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError, connection
from django.test import Client

from config.database import sqlstates
from reliability.api.stripe import webhook
from reliability.models import Delivery, StripeEvent
from tests.support import stripe

pytestmark = pytest.mark.django_db(transaction=True)
BODY = {"workflow": "echo", "payload": {"a": "secret words"}, "idempotency_key": "k"}


@pytest.fixture
def gone(monkeypatch):
    """Take the database away, by an address at which nothing listens."""

    def take() -> None:
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        monkeypatch.setitem(connection.settings_dict, "PORT", "9")

    yield take
    monkeypatch.undo()
    connection.close()


@pytest.fixture
def client(key, settings):
    """A client of every interface, which hears what a stranger would hear of an exception."""
    settings.CRON_SECRET = "s"
    headers = {"Authorization": f"Bearer {key()}", "X-Cron-Secret": "s"}
    return Client(headers=headers, raise_request_exception=False)


def is_told_to_come_again(answer) -> bool:
    assert "secret words" not in answer.content.decode()
    said = (answer.status_code, answer.headers["Content-Type"], answer.headers.get("Retry-After"))
    return said == (503, "application/problem+json", "30") and answer.json()["type"] == "urn:backstop:error:unavailable"


def send(client, **more):
    return client.post("/api/v1/deliveries/", json.dumps({**BODY, **more}), content_type="application/json")


def test_the_api_says_when_to_come_again_and_keeps_what_comes_then(client, workflow, gone, monkeypatch):
    workflow()
    gone()
    assert is_told_to_come_again(send(client))  # by the quick way
    assert is_told_to_come_again(send(client, expires_at="2100-01-01T00:00:00Z"))  # by the view
    assert is_told_to_come_again(client.get("/api/v1/dead-letters/"))
    batch = json.dumps({"deliveries": [BODY]})
    assert is_told_to_come_again(client.post("/api/v1/deliveries/batch/", batch, content_type="application/json"))
    monkeypatch.undo()
    assert send(client).status_code == 201
    assert Delivery.objects.count() == 1


def test_so_does_the_ping_of_a_cron_job_and_the_console(client, gone, settings):
    gone()
    assert is_told_to_come_again(client.post("/cron/recap/", headers={"Authorization": "Bearer s"}))
    client.cookies[settings.SESSION_COOKIE_NAME] = "x" * 32
    page = client.get("/admin/")
    assert (page.status_code, page.headers["Retry-After"]) == (503, "30")
    assert page.headers["Content-Type"].startswith("text/html")
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_stripe_sends_it_again_whatever_the_error_is(client, monkeypatch, settings):
    settings.STRIPE_WEBHOOK_SECRETS = [stripe.SECRET]
    body = stripe.event()
    headers = {"Stripe-Signature": stripe.sign(body)}

    def fail(**_):
        raise InterfaceError("the connection is closed")

    monkeypatch.setattr(webhook.ledger, "receive", fail)
    answer = client.post("/stripe/webhook/", body, content_type="application/json", headers=headers)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    assert not StripeEvent.objects.exists()


def test_a_statement_that_takes_too_long_is_asked_for_again_later(client, workflow):
    workflow()
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 1")

    try:
        with connection.execute_wrapper(lambda execute, sql, *more: execute("SELECT pg_sleep(1)", None, *more[1:])):
            assert is_told_to_come_again(send(client))
    finally:
        connection.close()
    assert not Delivery.objects.exists()


@pytest.mark.parametrize(
    ("error", "cause", "expected"),
    [
        (OperationalError, None, True),
        (OperationalError, psycopg.errors.DeadlockDetected, True),
        (OperationalError, psycopg.errors.DiskFull, True),
        (OperationalError, psycopg.errors.ProgramLimitExceeded, False),
        (InterfaceError, None, True),
        (InternalError, psycopg.errors.ReadOnlySqlTransaction, True),
        (InternalError, psycopg.errors.InFailedSqlTransaction, False),
        (IntegrityError, psycopg.errors.UniqueViolation, False),
        (ValueError, None, False),
    ],
)
def test_what_will_fail_the_next_time_too_is_no_matter_of_time(error, cause, expected):
    found = error("x")
    found.__cause__ = cause and cause("x")
    assert sqlstates.is_unavailable(found) is expected
