"""The OpenAPI document says what the API does."""

import json

import pytest
from django.test import Client
from drf_spectacular.validation import validate_schema

from reliability.api.common import serializers
from reliability.models import Breaker

pytestmark = pytest.mark.django_db


@pytest.fixture
def schema():
    return json.loads(Client().get("/api/schema/").content)


def test_it_is_valid_and_names_every_call(schema):
    validate_schema(schema)
    from reliability.api import urls
    from scheduling import api

    patterns = [str(one.pattern) for one in (*urls.urlpatterns, *api.urlpatterns)]
    calls = {one for one in patterns if one.startswith("v1/")}
    assert len(schema["paths"]) == len(calls)
    for operations in schema["paths"].values():
        for call in operations.values():
            assert call["summary" if "summary" in call else "description"]
            assert call["security"]
            assert "401" in call["responses"]


def test_the_documented_shapes_are_the_real_ones(workflow, accept, api):
    workflow()
    made = accept()
    one = api.get(f"/api/v1/deliveries/{made.pk}/").json()
    assert one.keys() == serializers.DeliverySerializer().fields.keys()
    listed = api.get("/api/v1/deliveries/").json()["results"][0]
    assert listed.keys() == serializers.DeliveryInList().fields.keys()
    assert listed.keys() == one.keys() - {"attempts"}
    breaker = api.get("/api/v1/breakers/").json()["results"][0]
    assert breaker.keys() == serializers.BreakerSerializer().fields.keys()
    assert Breaker.objects.exists()


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/api/docs/").content.decode()
    assert "swagger" in page
    for attribute in ('src="http', 'href="http', "src='http", '"//'):
        assert attribute not in page


@pytest.mark.parametrize("method", ["post", "put", "delete", "options"])
def test_the_page_is_only_read(client, method):
    answer = getattr(client, method)("/api/docs/")
    assert (answer.status_code, answer.headers["Content-Type"]) == (405, "application/problem+json")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
def test_what_csrf_protection_refuses_is_a_problem_outside_the_console(path):
    browser = Client(enforce_csrf_checks=True)
    answer = browser.post(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "application/problem+json")
    assert browser.post("/admin/login/").headers["Content-Type"].startswith("text/html")
