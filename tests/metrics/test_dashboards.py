"""Every query of the dashboards and of docs/metrics.md asks for what `/metrics` really says."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from django.db import DatabaseError, connection, transaction
from django.test import Client

from config import measuring
from config.front import refusals
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import create
from reliability.delivery import control, executions
from reliability.lanes import breakers, opening
from reliability.metrics import catalogue, web
from reliability.models import ExecutionStatus, StripeEndpoint, WorkerFigure
from reliability.stripe import ledger
from scheduling.models import CronJob

from ..support.receiver import Reply

ROOT = Path(__file__).resolve().parents[2]
BOARDS = sorted((ROOT / "ops" / "grafana" / "dashboards").glob("*.json"))
WORDS = re.compile(
    "sum|max|min|avg|count|rate|increase|histogram_quantile|topk|time|vector|by|without|on|and|or|unless|ignoring|bool"
)
ACTOR = Actor("somebody", "a test")


def queries(board: Path) -> list[str]:
    """Return what the panels and variables of a dashboard ask for."""
    document = json.loads(board.read_text())
    asked = [target["expr"] for panel in document["panels"] for target in panel.get("targets", ())]
    variables = document["templating"]["list"]
    return asked + [one["query"]["query"] for one in variables if one["type"] == "query"]


def every_query() -> list[str]:
    """Return those of all dashboards, then those of the document's table."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    written = re.findall(r"^\| [^|`]+ \| `(.+)` \|$", page, re.MULTILINE)
    assert len(written) > 5
    return [one for board in BOARDS for one in queries(board)] + written


def filled(query: str) -> str:
    """Return a query as Prometheus gets it."""
    return re.sub(r"\$[a-z]+", ".*", query.replace("$__rate_interval", "5m"))


def asked(query: str) -> dict[str, set[str]]:
    """Return the metrics that a query names, each with the labels by which it is chosen or summed up."""
    variable = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
    if variable:
        return {variable[1]: {variable[2]}}
    text = re.sub(r'"[^"]*"', '""', filled(query))
    found = {}
    for name, matchers in re.findall(
        r"([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?", re.sub(r"\[[^]]*\]", "", _no_groups(text))
    ):
        if not WORDS.fullmatch(name):
            found.setdefault(name, set()).update(re.findall(r"(\w+)\s*[=!]", matchers))
    outer = {label for group in re.findall(r"\bby \(([^)]*)\)", text) for label in re.findall(r"\w+", group)}
    return {name: labels | outer for name, labels in found.items()}


def _no_groups(text: str) -> str:
    return re.sub(r"\b(?:by|on|ignoring) \([^)]*\)", "", text)


@pytest.fixture
def told(workflow, receiver, drain, accept, scrape, settings):
    """Let something of every kind happen; return the labels of each sample that is told."""
    settings.METRICS_TENANT_LABEL = True
    workflow(max_retries=1)
    measuring.measure(connection)
    codes = iter([500, 200, 422])
    receiver.rule = lambda got: Reply(next(codes, 200))
    for _ in range(3):
        accept()
        for _ in range(4):
            drain()
    lane = opening.open_lane(workflow_id=workflow("other", paused=True).pk, tenant="default")
    control.cancel(delivery_id=accept(workflow="other").pk, actor=ACTOR, now=clock.now())
    create.from_api(report=create.Report("other", "default", "{}", "it failed"), now=clock.now())
    executions.record(lane_id=lane.pk, execution_id="1", status=ExecutionStatus.SUCCESS, now=clock.now())
    breakers.force_open(breaker_id=lane.breaker.pk, actor=ACTOR, now=clock.now())
    StripeEndpoint.objects.create(slug="default")
    ledger.record_refusal(slug="default", error=ledger.UnknownEndpoint(), address="")
    CronJob.objects.create(slug="told", name="told")
    WorkerFigure.objects.create(worker="a:1", memory_bytes=1, cpu_seconds=1, seen_at=clock.now())
    client = Client(raise_request_exception=False)
    client.post("/cron/told/", headers={"Authorization": "Bearer a-cron-secret"})
    web.ERRORS.labels("none").inc(0)
    refusals.begin()  # as a web process does
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT no_such_thing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reliability.views.migrations", lambda: 1 / 0)
        client.get("/readyz")
    found: dict[str, set[str]] = {}
    for one in scrape().samples:
        found.setdefault(one.name, set()).update(one.labels)
    return found


@pytest.mark.django_db(transaction=True)
def test_every_query_asks_for_what_is_told(told):
    for query in every_query():
        for name, labels in asked(query).items():
            assert name in told, query
            # What Prometheus itself adds, or another metric of the same query has.
            extra = labels - told[name] - {"instance"}
            others = set().union(*(told[other] for other in asked(query)))
            assert not extra - others, f"{query}: {extra}"


@pytest.mark.django_db(transaction=True)
def test_every_metric_is_told_and_described_as_it_is(told):
    for one in catalogue.described():
        suffix = "_count" if one.kind == "histogram" else ""
        assert one.name + suffix in told, one.name
        assert told[one.name + suffix] == set(one.all_labels), one.name


def test_queries_are_read_as_prometheus_reads_them():
    query = 'sum by (a, b) (rate(x_total{c=~"$workflow",d!="e"}[$__rate_interval])) / on (a) max(y) > 0'
    assert asked(query) == {"x_total": {"a", "b", "c", "d"}, "y": {"a", "b"}}
    assert asked("label_values(x, a)") == {"x": {"a"}}


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, of Debian's package prometheus")
def test_prometheus_takes_every_query(tmp_path):
    texts = [filled(one) for one in every_query() if not one.startswith("label_values")]
    rules = [{"record": f"r{n}", "expr": text} for n, text in enumerate(texts)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(texts)} rules found" in done.stdout


@pytest.mark.parametrize("board", BOARDS, ids=lambda one: one.stem)
def test_a_dashboard_is_whole(board):
    document = json.loads(board.read_text())
    assert document["uid"] == f"backstop-{board.stem}"
    assert document["schemaVersion"] >= 41
    panels = [one for one in document["panels"] if one["type"] != "row"]
    assert len({one["id"] for one in document["panels"]}) == len(document["panels"])
    assert len(panels) >= 8
    for panel in panels:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    cells = [
        (x, y)
        for one in document["panels"]
        for x in range(one["gridPos"]["x"], one["gridPos"]["x"] + one["gridPos"]["w"])
        for y in range(one["gridPos"]["y"], one["gridPos"]["y"] + one["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    names = {one["name"] for one in document["templating"]["list"]}
    used = {name for query in queries(board) for name in re.findall(r"\$([a-z]+)", query)}
    assert used <= names


def test_there_is_a_dashboard_for_each_subject():
    assert [one.stem for one in BOARDS] == ["overview", "stripe", "system", "workflow"]


def test_provisioning_names_what_there_is():
    place = ROOT / "ops" / "grafana" / "provisioning"
    source = yaml.safe_load((place / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    provider = yaml.safe_load((place / "dashboards" / "backstop.yaml").read_text())["providers"][0]
    assert (source["type"], provider["type"]) == ("prometheus", "file")
