"""`GET /metrics`: who may look, in which format, and what of it holds when a part fails."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from reliability import VERSION
from reliability.core import clock
from reliability.lanes import opening
from reliability.metrics import catalogue, lane_gauges, lanes, scrape, views, web
from reliability.models import Delivery, Slot
from reliability.stats import gauges

pytestmark = pytest.mark.django_db

OPEN = "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer a-token", 200),
        ("bearer a-token", 200),
        ("Bearer  a-token ", 200),
        ("Bearer another", 401),
        ("Bearer a-toke", 401),
        ("Bearer a-tokenn", 401),
        ("Bearer", 401),
        ("Basic a-token", 401),
        ("a-token", 401),
        ("Bearer ä", 401),
        (None, 401),
    ],
)
def test_a_token_opens(settings, header, status):
    settings.METRICS_TOKEN = "a-token"
    headers = {} if header is None else {"Authorization": header}
    answer = Client(headers=headers).get("/metrics")
    assert answer.status_code == status
    if status == 401:
        assert answer["WWW-Authenticate"].startswith("Bearer")
        assert answer["Content-Type"] == "application/problem+json"
        assert b"backstop_" not in answer.content


def test_without_a_token_everybody_may_look(client):
    assert client.get("/metrics").status_code == 200
    assert client.head("/metrics").content == b""
    assert client.post("/metrics").status_code == 405
    assert client.get("/metrics")["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain", plain_text),
        ("*/*", "text/plain", plain_text),
        ("text/plain; version=0.0.4", "text/plain", plain_text),
        (OPEN, "application/openmetrics-text", open_metrics),
        (f"{OPEN},text/plain;version=0.0.4;q=0.5", "application/openmetrics-text", open_metrics),
    ],
)
def test_both_formats_are_what_they_say(client, workflow, accept, content_type, parse):
    workflow(paused=True)
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer["Content-Type"].startswith(content_type)
    families = {one.name: one for one in parse(answer.content.decode())}
    assert families["backstop_workers_alive"].samples[0].value == 0
    assert families["backstop_build_info"].samples[0].labels == {"version": VERSION}


def test_a_part_that_fails_hides_no_other(client, monkeypatch, caplog):
    def fail(**_):
        raise OperationalError("out of order")

    monkeypatch.setattr(gauges, "lanes", fail)
    before = web.ERRORS.labels("lanes")._value.get()
    answer = client.get("/metrics")
    assert answer.status_code == 200
    found = {one.name: one for one in plain_text(answer.content.decode())}
    up = {one.labels["part"]: one.value for one in found["backstop_scrape_part_up"].samples}
    assert up.pop("lanes") == 0
    assert set(up.values()) == {1}
    assert {"totals", "breakers", "workers", "processes", "web", "cron"} == set(up)
    assert "backstop_backlog_deliveries" not in found
    assert "backstop_workers_alive" in found
    assert web.ERRORS.labels("lanes")._value.get() == before + 1
    assert "scrape_failed" in caplog.text
    assert "out of order" not in answer.content.decode()


def test_a_statement_of_one_part_that_fails_spoils_no_other(client, monkeypatch):
    monkeypatch.setattr(gauges, "BREAKERS", "SELECT no_such_column FROM reliability_breaker WHERE %(demo)s <> ''")
    found = {one.name for one in plain_text(client.get("/metrics").content.decode())}
    assert "backstop_breaker_state" not in found
    assert "backstop_workers_alive" in found


def test_without_a_database_it_still_answers(client, monkeypatch):
    asked = []

    def fail(now):
        asked.append(now)
        raise OperationalError("gone")

    monkeypatch.setattr(scrape, "_is_connection_lost", lambda: True)
    monkeypatch.setitem(scrape._database_parts, "totals", fail)
    monkeypatch.setitem(scrape._database_parts, "lanes", fail)
    found = {one.name: one for one in plain_text(client.get("/metrics").content.decode())}
    assert len(asked) == 1, "nobody waits twice for a database that is away"
    up = {one.labels["part"]: one.value for one in found["backstop_scrape_part_up"].samples}
    assert up["processes"] == 1
    assert up["breakers"] == 0
    assert "process_resident_memory_bytes" in found


def test_the_process_says_what_it_uses(scrape):
    seen = scrape()
    assert 10e6 < seen("process_resident_memory_bytes") < 2e9
    assert seen("process_cpu_seconds_total") > 0


def test_a_backlog_is_counted_and_its_age_told(workflow, accept_many, scrape, monkeypatch):
    workflow(paused=True)
    accept_many(3)
    first = Delivery.objects.order_by("id")[0]
    Delivery.objects.filter(pk=first.pk).update(due_at=clock.now() - timedelta(minutes=5))
    seen = scrape()
    assert seen("backstop_backlog_deliveries", workflow="echo", state="pending") == 3
    assert seen("backstop_backlog_deliveries", workflow="echo", state="sending") == 0
    assert 299 < seen("backstop_backlog_oldest_seconds", workflow="echo") < 360
    monkeypatch.setattr(gauges, "CAP", 2)
    assert scrape()("backstop_backlog_deliveries", workflow="echo", state="pending") == 2
    Delivery.objects.update(due_at=clock.now() + timedelta(hours=1))
    assert scrape()("backstop_backlog_oldest_seconds", workflow="echo") == 0


def test_ages_are_counted_by_the_databases_clock(workflow, accept, scrape, monkeypatch):
    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=1)

    workflow(paused=True)
    accept()
    monkeypatch.setattr(views, "datetime", Ahead)
    assert 0 <= scrape()("backstop_backlog_oldest_seconds", workflow="echo") < 60


def test_places_that_others_hold_are_in_use(workflow, scrape):
    lane = opening.open_lane(workflow_id=workflow(concurrency_limit=3).pk, tenant="default")
    opening.open_lane(workflow_id=lane.workflow_id, tenant="other")
    Slot.objects.create(lane=lane, taken_at=clock.now(), expires_at=clock.now() + timedelta(minutes=1))
    Slot.objects.create(lane=lane, taken_at=clock.now(), expires_at=clock.now() - timedelta(minutes=1))
    seen = scrape()
    assert seen("backstop_slots_in_use", workflow="echo") == 1
    assert seen("backstop_slots_limit", workflow="echo") == 6


def test_what_is_made_up_is_left_out(scrape):
    call_command("demo")
    text = scrape().text
    assert 'workflow="demo' not in text
    assert scrape()("backstop_dlq_entries") is None
    assert not [
        one for one in scrape().samples if one.name.startswith("backstop_cron_job") and "demo" in str(one.labels)
    ]


def test_queries_are_few_and_none_for_each_lane(workflow, django_assert_max_num_queries):
    for n in range(5):
        workflow(f"echo-{n}")
    with django_assert_max_num_queries(30) as caught:
        scrape.collect(now=datetime.now(UTC))
    assert len([one for one in caught.captured_queries if "SELECT" in one["sql"]]) <= 10


def test_each_family_is_described(client, workflow, accept):
    workflow(paused=True)
    accept()
    known = {one.name: one for one in catalogue.described()}
    for found in plain_text(client.get("/metrics").content.decode()):
        if found.name.startswith("django_"):
            continue
        name = f"{found.name}_total" if found.type == "counter" else found.name
        assert known[name].kind == found.type
    assert lanes.INSTANCE == lane_gauges.INSTANCE
