"""The status and the switches."""

import json
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client

from reliability.core import clock
from reliability.dead_letters import create
from reliability.delivery import dispatch
from reliability.models import AuditEntry, Breaker, DeadLetter, Delivery, StripeRefusal

from ..support.receiver import until

URL = "/api/v1/status/"


def post(api, url, body):
    return api.post(url, json.dumps(body), content_type="application/json")


@pytest.mark.django_db
class TestStatus:
    def test_an_empty_house(self, api):
        found = api.get(URL).json()
        assert found["breakers"] == {"closed": 0, "open": 0, "half_open": 0, "forced_open": 0}
        assert found["dead_letters"] == {"total": 0, "oldest_at": None, "by_workflow": []}
        assert found["backlog"] == {"waiting": 0, "in_flight": 0, "oldest_seconds": None}
        assert (found["lanes_at_limit"], found["workers_alive"]) == ([], 0)
        assert [(one["name"], one["enabled"]) for one in found["flags"]] == [
            ("scheduling", True),
            ("dispatch", True),
            ("stripe", True),
        ]

    def test_what_there_is(self, workflow, accept_many, api):
        workflow(concurrency_limit=2)
        workflow("other")
        lane = accept_many(5)[0].lane_id
        accept_many(1, workflow="other", deliver_at=clock.now() + timedelta(hours=1))
        Delivery.objects.filter(lane_id=lane).update(due_at=clock.now() - timedelta(minutes=2))
        dispatch.run(lane_id=lane, sent=[], capacity=10)
        Breaker.objects.filter(lane_id=lane).update(state="open")
        for n in range(3):
            letter = create.from_api(report=create.Report("other", "acme", "{}", f"no {n}"), now=clock.now())
        DeadLetter.objects.filter(pk=letter.pk).update(status="purged")
        StripeRefusal.objects.create(slug="default", reason="signature", count=7, at=clock.now())
        found = api.get(URL).json()
        assert found["breakers"] == {"closed": 3, "open": 1, "half_open": 0, "forced_open": 0}
        assert found["dead_letters"]["total"] == 2
        assert [(one["workflow"], one["count"]) for one in found["dead_letters"]["by_workflow"]] == [("other", 2)]
        assert (found["backlog"]["waiting"], found["backlog"]["in_flight"]) == (4, 2)
        assert 119 < found["backlog"]["oldest_seconds"] < 180
        assert found["lanes_at_limit"] == [
            {"workflow": "echo", "tenant": "default", "in_flight": 2, "limit": 2, "waiting": 3}
        ]
        assert found["stripe"]["refused_last_hour"] == 7

    def test_a_tenant_sees_its_own(self, workflow, accept_many, key):
        workflow(concurrency_limit=1)
        accept_many(3, tenant="acme")
        accept_many(2, tenant="other")
        StripeRefusal.objects.create(slug="default", reason="signature", at=clock.now())
        found = Client(headers={"X-API-Key": key(tenant="acme")}).get(URL).json()
        assert found["backlog"]["waiting"] == 3
        assert found["breakers"]["closed"] == 1
        assert found["stripe"]["refused_last_hour"] == 0

    def test_unknown_parameters_are_refused(self, api):
        for url in (URL, "/api/v1/flags/"):
            assert api.get(url + "?nope=1").json()["errors"] == {"nope": ["Unknown field."]}

    def test_it_asks_the_database_little(self, workflow, accept_many, api, django_assert_max_num_queries):
        for n in range(20):
            workflow(f"flow-{n}")
            accept_many(2, workflow=f"flow-{n}")
        with django_assert_max_num_queries(12):
            assert api.get(URL).json()["backlog"]["waiting"] == 40


@pytest.mark.django_db
class TestFlags:
    def test_a_switch_is_turned_told_and_on_record(self, api):
        off = post(api, "/api/v1/flags/dispatch/", {"enabled": False, "reason": "the vendor moves house"})
        assert off.status_code == 200
        assert off.json()["enabled"] is False
        kept = {one["name"]: one for one in api.get("/api/v1/flags/").json()}
        assert kept["dispatch"]["reason"] == "the vendor moves house"
        assert api.get(URL).json()["flags"][1]["enabled"] is False
        post(api, "/api/v1/flags/dispatch/", {"enabled": False, "reason": "again"})  # changes nothing
        post(api, "/api/v1/flags/dispatch/", {"enabled": True})
        assert list(AuditEntry.objects.order_by("id").values_list("action", "target_id", "reason")) == [
            ("switch_off", "dispatch", "the vendor moves house"),
            ("switch_on", "dispatch", ""),
        ]

    def test_bad_input(self, api, key):
        assert post(api, "/api/v1/flags/nope/", {"enabled": False}).status_code == 404
        for body in ({}, {"enabled": "maybe"}, {"enabled": True, "x": 1}):
            assert post(api, "/api/v1/flags/stripe/", body).status_code == 400
        own = Client(headers={"X-API-Key": key(tenant="acme")})
        assert post(own, "/api/v1/flags/stripe/", {"enabled": False}).status_code == 403
        assert all(one["enabled"] for one in api.get("/api/v1/flags/").json())


def _has_started(*, since) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM procrastinate_workers WHERE last_heartbeat >= %s", [since])
        return cursor.fetchone() is not None


@pytest.mark.django_db(transaction=True)
def test_nothing_is_sent_while_dispatch_is_off_and_everything_after(workflow, api, accept_many, receiver, workers):
    workflow()
    post(api, "/api/v1/flags/dispatch/", {"enabled": False})
    accept_many(5)
    begun = clock.now()
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    # Workers that other tests killed count for half a minute.
    until(lambda: _has_started(since=begun) and api.get(URL).json()["workers_alive"] >= 1, within=60)
    time.sleep(3)
    assert not receiver.got
    post(api, "/api/v1/flags/dispatch/", {"enabled": True})
    receiver.wait_for(5)
