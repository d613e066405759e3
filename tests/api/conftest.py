"""Callers of the API, and what n8n has been sent."""

from uuid import uuid4

import pytest
from django.test import Client

from reliability.models import Delivery


@pytest.fixture(autouse=True)
def _declared(held_against_schema):
    """Whatever these tests ask, the answer is one that the OpenAPI document declares."""


@pytest.fixture
def client_of(key):
    def make(tenant=None, *scopes):
        return Client(headers={"X-API-Key": key(tenant=tenant, scopes=list(scopes))})

    return make


@pytest.fixture
def sent(accept):
    """Accept a delivery, and let it be as if it had been sent."""

    def make(state, *, attempts=1, **values) -> Delivery:
        from reliability.core import clock

        made = accept(**values)
        leased = {"lease_token": uuid4(), "lease_until": clock.now()} if state == "sending" else {}
        values = {"state": state, "attempt_count": attempts, "sent_at": clock.now(), **leased}
        Delivery.objects.filter(pk=made.pk).update(**values)
        made.refresh_from_db()
        return made

    return make
