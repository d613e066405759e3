import io
import json
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import create
from reliability.lanes import breakers
from reliability.models import ApiKey, AuditEntry, Breaker, DeadLetter, Delivery, Lane, Workflow

from ..support.workers import ROOT, environment

FILE = {
    "name": "Notify-10 Gap Fill",
    "path": "notify-gap-fill",
    "concurrency_limit": 5,
    "circuit_breaker_threshold": 10,
    "retry_policy": {"max_retries": 3, "base_delay_ms": 1000, "max_delay_ms": 30000},
    "tenants": {"acme": {"concurrency_limit": 2}},
}


def run(*words, **options) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


@pytest.fixture
def file(tmp_path):
    def write(document) -> str:
        path = tmp_path / "workflow.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    return write


@pytest.fixture
def letters(workflow):
    """Three dead letters, two of them of one kind."""
    workflow(paused=True)
    codes = ["E1", "E1", "E2"]
    reports = [create.Report("echo", "default", f'{{"n": {n}}}', "boom", code) for n, code in enumerate(codes)]
    return [create.from_api(report=one, now=clock.now()) for one in reports]


def test_what_is_exported_imports_to_the_same(db, file):
    assert run("import_workflows", file(FILE)) == "notify-gap-fill: created\n"
    exported = run("export_workflows")
    assert run("import_workflows", file(exported)) == "notify-gap-fill: unchanged\n"
    assert run("export_workflows") == exported
    assert AuditEntry.objects.filter(action="import_workflow").count() == 1
    (document,) = json.loads(exported)
    assert {name: document[name] for name in FILE} == FILE
    assert Lane.objects.get(tenant="acme").policy.concurrency_limit == 2


@pytest.mark.parametrize(
    "document",
    [
        "not json",
        "[1]",
        "{}",
        {**FILE, "unknown": 1},
        {**FILE, "concurrency_limit": 0},
        {**FILE, "concurrency_limit": True},
        {**FILE, "retry_policy": {"base_delay_ms": 5, "max_delay_ms": 1}},
        {**FILE, "retry_policy": {"jitter_factor": 2}},
        {**FILE, "slug": "Not A Slug"},
        {**FILE, "auth_value": "s3cret"},
        {**FILE, "tenants": {"acme": {"path": "x"}}},
        {**FILE, "path": ""},
    ],
    ids=str,
)
def test_a_file_that_makes_no_sense_changes_nothing(db, file, document):
    with pytest.raises(CommandError):
        run("import_workflows", file(document))
    assert not Workflow.objects.exists()


def test_of_several_files_all_or_none(db, file, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(CommandError):
        run("import_workflows", file(FILE), str(bad))
    assert not Workflow.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_key_is_alone_on_the_last_line():
    command = [sys.executable, "manage.py", "create_api_key", "--name", "shop", "--scope", "read"]
    done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=True)
    plain = done.stdout.splitlines()[-1]
    assert ApiKey.objects.get().matches(plain)
    caller = Client(headers={"X-API-Key": plain})
    assert caller.get("/api/v1/deliveries/").status_code == 200
    assert caller.post("/api/v1/deliveries/", "{}", content_type="application/json").status_code == 403


def test_replay_by_filter_counts_first_and_says_how_many(letters):
    assert (
        run("replay", "--failure-reason", "reported", "--error-code", "E1", "--dry-run")
        == "2 dead letters would be replayed.\n"
    )
    assert run("replay", "--fingerprint", "none", "--dry-run") == "0 dead letters would be replayed.\n"
    assert run("replay", "--error-code", "E1", "--dry-run") == "2 dead letters would be replayed.\n"
    assert not Delivery.objects.exists()
    assert run("replay", "--error-code", "E1", "--reason", "fixed").startswith("Replaying 2 dead letters ")
    entry = AuditEntry.objects.get(action="bulk_replay")
    assert (entry.count, entry.reason) == (2, "fixed")
    assert entry.actor.startswith("command:")


def test_replay_and_purge_single_ones(letters):
    first, second, third = letters
    run("replay", str(first.pk), "--payload", '{"edited": 1}')
    assert Delivery.objects.get().document == {"edited": 1}
    run("purge", str(second.pk))
    with pytest.raises(CommandError, match="1 of 2"):
        run("purge", str(second.pk), str(third.pk))
    assert list(DeadLetter.objects.order_by("id").values_list("status", flat=True)) == ["replaying", "purged", "purged"]


@pytest.mark.parametrize(
    "words",
    [
        ("replay",),
        ("purge",),
        ("replay", "--all", "--rate", "0"),
        ("replay", "--all", "--rate", "nan"),
        ("replay", "no-uuid"),
        ("replay", "--workflow", "Bad Slug"),
        ("replay", "--created-after", "yesterday"),
        ("replay", "--all", "--payload", "{"),
        ("reset_breaker",),
        ("reset_breaker", "--workflow", "none-such"),
        ("reset_breaker", "no-uuid"),
    ],
    ids=" ".join,
)
def test_what_is_not_clear_is_refused(letters, words):
    with pytest.raises(CommandError):
        run(*words)
    assert not Delivery.objects.exists()
    assert set(DeadLetter.objects.values_list("status", flat=True)) == {"dead"}


def test_reset_breaker_closes_and_wakes(workflow, accept, lane_breaker):
    workflow()
    accept()
    breakers.force_open(breaker_id=lane_breaker().pk, actor=Actor("t", "t"), now=clock.now())
    assert "would be reset" in run("reset_breaker", "--workflow", "echo", "--dry-run")
    assert lane_breaker().state == "forced_open"
    run("reset_breaker", "--workflow", "echo", "--reason", "over")
    assert Breaker.objects.get(scope="lane").state == "closed"
