"""`check_alerts`, `acknowledge_alert` and `silence_alerts`."""

import io
import json
import subprocess
import sys
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from reliability.core import clock
from reliability.models import Alert, AlertNotice, AlertSilence, AuditEntry
from scheduling.models import CronJob

from ..support.mail import closed_port
from ..support.receiver import Receiver
from ..support.workers import ROOT, environment

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def run(*words: str) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture
def hook(settings):
    made = Receiver().start()
    settings.ALERT_WEBHOOK_URL = f"http://127.0.0.1:{made.port}/hook"
    yield made
    made.stop()


@pytest.fixture
def alive(db):
    """A worker that lives, and no built-in job that was never pinged."""
    CronJob.objects.update(enabled=False)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())")


@pytest.fixture
def no_worker(alive):
    """As if no worker were alive, and a check had seen so two minutes ago."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")
    run("check_alerts")
    Alert.objects.update(pending_since=clock.now() - timedelta(minutes=2))


def test_where_all_is_well_it_says_so_of_each(alive, hook):
    lines = run("check_alerts").splitlines()
    assert lines[0].split() == ["alert", "state", "subject", "value", "limit", "since", "notes"]
    assert {tuple(line.split()[:2]) for line in lines[1:]} >= {
        ("NoWorker", "ok"),
        ("BreakerOpen", "ok"),
        ("CpuHigh", "ok"),
    }
    assert all(line.split()[1] == "ok" for line in lines[1:])
    assert hook.got == []


def test_what_fires_is_told_and_shown_first(no_worker, hook):
    with pytest.raises(CommandError) as stop:
        run("check_alerts", "--fail-on-firing")
    assert stop.value.returncode == 2
    assert len(hook.got) == 1
    first = run("check_alerts").splitlines()[1]
    assert first.split()[:5] == ["NoWorker", "firing", "0", "<", "1"]
    assert len(hook.got) == 1  # told already
    assert run("check_alerts", "--json")


def test_json_says_the_same(no_worker, hook):
    found = json.loads(run("check_alerts", "--json"))
    (one,) = [line for line in found["conditions"] if line["state"] == "firing"]
    assert (one["alert"], one["severity"], one["value"], one["limit"], one["bound"]) == (
        "NoWorker",
        "critical",
        0,
        1,
        "<",
    )
    assert (one["told"], one["summary"]) == ("firing", "No worker is running, so nothing is delivered.")
    assert (found["firing"], found["unsent"], len(found["notices"])) == (1, [], 1)


def test_a_dry_run_tells_nobody(no_worker, hook):
    said = run("check_alerts", "--dry-run").splitlines()[1]
    assert "notified: firing" in said
    assert (Alert.objects.get().state, hook.got, AlertNotice.objects.count()) == ("pending", [], 0)


def test_a_channel_that_fails_is_its_exit_code_until_it_has_told(no_worker, hook):
    hook.always(500)
    said = r"1 notice not sent yet(.|\n)*webhook: The webhook answered HTTP 500"
    with pytest.raises(CommandError, match=said) as stop:
        run("check_alerts")
    assert stop.value.returncode == 1
    hook.always(200)
    with pytest.raises(CommandError, match="1 attempt, next at"):
        run("check_alerts")  # its time has not come
    AlertNotice.objects.update(next_at=clock.now())
    run("check_alerts")
    assert AlertNotice.objects.get().state == "sent"


def test_alerts_are_acknowledged_by_name_and_by_id(no_worker, hook):
    run("check_alerts")
    assert "acknowledged" in run("acknowledge_alert", "NoWorker", "--reason", "on it")
    assert Alert.objects.get().acknowledged_reason == "on it"
    assert "until" in run("acknowledge_alert", str(Alert.objects.get().pk), "--until", "2099-01-01T00:00Z")
    for name in ("BreakerOpen", "nonsense", "018f0000-0000-7000-8000-000000000000"):
        with pytest.raises(CommandError, match="1 of 1"):
            run("acknowledge_alert", name)


def test_quiet_periods_are_begun_listed_and_ended(workflow, no_worker, hook):
    workflow()
    until = (clock.now() + HOUR).isoformat()
    run("silence_alerts", "--alert", "BacklogOld", "--workflow", "echo", "--until", until, "--reason", "a move")
    said = run("silence_alerts", "--until", until, "--reason", "all of it")
    assert "BacklogOld of echo" in said
    assert "All alerts of all workflows" in said
    run("check_alerts")
    assert hook.got == []
    for one in AlertSilence.objects.all():
        run("silence_alerts", "--end", str(one.pk))
    assert run("silence_alerts") == ""
    run("check_alerts")
    assert len(hook.got) == 1
    assert AuditEntry.objects.filter(action="end_silence").count() == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--until", "2001-01-01T00:00Z", "--reason", "x"),
        ("--until", "soon", "--reason", "x"),
        ("--until", "2099-01-01T00:00Z"),
        ("--until", "2099-01-01T00:00Z", "--reason", "x", "--workflow", "none"),
        ("--end", "nonsense"),
        ("--end", "018f0000-0000-7000-8000-000000000000"),
    ],
)
def test_a_senseless_quiet_period_is_refused(db, words):
    with pytest.raises(CommandError):
        run("silence_alerts", *words)
    assert not AlertSilence.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_process_itself_says_it_by_its_exit_code():
    """With nobody to deliver, and a mail server that is away."""
    CronJob.objects.update(enabled=False)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")  # of a test before, which may seem to live
    now = clock.now()
    values = {"severity": "critical", "state": "pending", "value": 0, "limit": 1, "checked_at": now}
    Alert.objects.create(name="NoWorker", pending_since=now - HOUR, **values)
    mail = {"ALERT_EMAILS": "ada@example.com", "EMAIL_URL": f"smtp://127.0.0.1:{closed_port()}"}

    def check(**changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "manage.py"), "check_alerts", "--fail-on-firing"]
        return subprocess.run(
            command, env=environment(**changes), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    done = check(**mail)
    assert done.returncode == 1, done.stderr
    assert "mail: The mail server cannot be used: Connection refused." in done.stderr
    assert "Traceback" not in done.stderr
    AlertNotice.objects.all().delete()
    assert check().returncode == 2
