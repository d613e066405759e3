"""Queries that make no sense are refused, not half understood."""

import pytest

from .routes import api_routes

pytestmark = pytest.mark.django_db
LISTS = [one.address() for one in api_routes() if "<" not in one.template and "GET" in one.methods]


@pytest.mark.parametrize("path", LISTS)
def test_a_query_of_too_many_fields_is_no_fault_of_ours(api, path):
    answer = api.get(path, query_params={f"f{i}": "1" for i in range(2000)})
    if answer.status_code != 200:  # who takes no query does not read it
        assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")


@pytest.mark.parametrize("query", ["workflow=a&workflow=b", "page_size=1&page_size=2", "cursor=&cursor="])
def test_a_filter_that_is_given_twice_is_refused(api, query):
    answer = api.get(f"/api/v1/dead-letters/?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"] == {query.partition("=")[0]: ["Given twice."]}
