"""A packed body is refused, wherever a body is read."""

import gzip
import json

import pytest
from django.test import Client

from reliability.models import Delivery

from .routes import api_routes

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP", "unheard-of"])
def test_no_call_takes_a_packed_body(api, coding):
    for route in api_routes():
        for method in route.methods:
            if method in ("GET", "HEAD"):
                continue
            answer = api.generic(
                method,
                route.address(),
                gzip.compress(b"{}"),
                content_type="application/json",
                headers={"Content-Encoding": coding},
            )
            assert answer.status_code == 415, (route.template, method)
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.headers["Accept-Encoding"] == "identity"
            assert answer.json()["type"] == "urn:backstop:error:encoded-body"


def test_a_readable_body_that_is_said_to_be_packed_is_refused_too(workflow, api):
    workflow()
    body = json.dumps({"workflow": "echo", "payload": {}})
    for said, status in (("gzip", 415), ("identity", 201), ("", 201)):
        answer = api.post("/api/v1/deliveries/", body, "application/json", headers={"Content-Encoding": said})
        assert answer.status_code == status
    assert Delivery.objects.count() == 2


def test_who_may_not_call_learns_nothing_else():
    answer = Client().post("/api/v1/deliveries/", b"{}", "application/json", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 401
