"""The doctor: each thing that can be wrong is found, named, and comes with what to do."""

import json
import os
import shutil
import socketserver
import threading
import time
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.management import CommandError, call_command
from django.db import connection

from reliability.core import clock
from reliability.lanes import opening
from reliability.models import Archive, DeadLetter, StripeEndpoint, StripeSecret, error_fields
from reliability.setup import doctor
from reliability.setup.doctor import Finding, State, outside, service
from scheduling import doctor as cron
from scheduling.models import CronJob

from ..support import stripe
from ..support.n8n_api import KEY, FakeN8n
from ..support.n8n_api import workflow as n8n_workflow

pytestmark = pytest.mark.django_db(transaction=True)
DAY = timedelta(days=1)


def states(work) -> list[str]:
    return [one.state for one in work()]


def only(work, state: str) -> Finding:
    """Return the one finding of that state; each has words, and each that is not well has advice."""
    found = list(work())
    (one,) = [one for one in found if one.state == state]
    assert all(one.found and (one.advice or one.state in ("ok", "skipped")) for one in found)
    return one


@pytest.fixture
def n8n(settings):
    made = FakeN8n()
    made.answer = lambda method, path: 200 if path.startswith("/healthz") else None
    settings.N8N_API_URL, settings.N8N_API_KEY = made.url, KEY
    yield made
    made.stop()


@pytest.fixture
def vendor(settings):
    made = stripe.Api()
    settings.STRIPE_API_URL, settings.STRIPE_API_KEY = made.url, "sk_test_1"
    yield made
    made.stop()


def test_a_database_that_is_well():
    assert set(states(service.database)) == {"ok"}
    assert states(service.migrations) == ["ok"]


def test_a_database_that_cannot_be_reached(monkeypatch):
    def refuse():
        raise OSError("connection refused")

    monkeypatch.setattr(connection, "ensure_connection", refuse)
    found = only(service.database, "failure")
    assert "connection refused" in found.found
    assert "DATABASE_URL" in found.advice


def test_a_clock_that_is_off(monkeypatch):
    plain = clock.now
    monkeypatch.setattr(service.clock, "now", lambda: plain() + timedelta(minutes=2))
    assert "This machine's clock is 120 s behind the database's." in only(service.database, "warning").found


def test_few_connections_are_left(monkeypatch):
    monkeypatch.setattr(service, "FEW_CONNECTIONS", 10_000)
    assert "connections left" in only(service.database, "warning").found


def test_a_long_transaction_is_named(monkeypatch):
    monkeypatch.setattr(service, "LONG", timedelta())
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
        found = only(service.database, "warning")
        assert f"process {pid}" in found.found
        assert f"pg_terminate_backend({pid})" in found.advice
    finally:
        other.close()


def test_migrations_that_are_missing_and_what_waits_for_them():
    call_command("migrate", "reliability", "0004", verbosity=0)
    try:
        assert "reliability.0005_groups" in only(service.migrations, "failure").found
        found = {one.check: one for one in doctor.examine()}
        assert (found["stripe"].state, found["stripe"].found) == ("skipped", "Skipped: fix 'migrations' first.")
    finally:
        call_command("migrate", verbosity=0)


def test_the_engine():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")  # a worker that a test killed leaves its own
    assert states(service.the_engine) == ["ok", "ok"]
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('x', 'x', 'failed')")
        cursor.execute("INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('x', 'x', 'doing')")
    found = [one.found for one in service.the_engine() if one.state == "warning"]
    assert found == ["1 job of workers that died.", "1 job failed."]


def test_notifications_that_do_not_arrive(monkeypatch):
    monkeypatch.setattr(service, "CHANNEL", "other")
    plain = connection.copy

    def deaf():
        made = plain()
        made.ensure_connection()
        made.connection.notifies = lambda **_: iter(())
        return made

    monkeypatch.setattr(connection, "copy", deaf)
    assert "PgBouncer" in only(service.the_engine, "failure").advice


def test_workers(monkeypatch):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")
    assert "manage.py worker" in only(service.workers, "failure").advice
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    assert only(service.workers, "ok").found == "1 worker running."


def test_static_files(settings, tmp_path, monkeypatch):
    assert states(service.static_files) == ["skipped"]
    backend = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    settings.STATIC_ROOT = str(tmp_path)
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": backend}}
    storage = ManifestStaticFilesStorage(location=str(tmp_path))
    monkeypatch.setattr(service, "staticfiles_storage", storage)
    assert "collectstatic" in only(service.static_files, "failure").advice
    name = "reliability/console.0123456789ab.css"
    (tmp_path / "reliability").mkdir()
    (tmp_path / name).write_text("")
    storage.hashed_files = {service.SAMPLE: name}
    assert states(service.static_files) == ["ok"]
    os.utime(tmp_path / name, (0, 0))
    assert only(service.static_files, "warning").found == "The collected static files are outdated."


class _Mail(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            self.wfile.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 ok\r\n")


def test_mail(settings):
    assert states(service.the_mail) == ["skipped"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
        assert only(service.the_mail, "ok").found == "The mail server 127.0.0.1 accepts the login."
        server.shutdown()
    found = only(service.the_mail, "failure")
    assert "refused" in found.found
    assert "EMAIL_URL" in found.advice


@pytest.fixture
def archive_in(settings):
    def use(place) -> None:
        backend = "django.core.files.storage.FileSystemStorage"
        settings.STORAGES = {**settings.STORAGES, "archive": {"BACKEND": backend, "OPTIONS": {"location": place}}}

    return use


@pytest.mark.parametrize(("free", "state"), [(10 * 2**30, "ok"), (2**29, "warning"), (2**20, "failure")])
def test_room_for_the_archive(archive_in, tmp_path, monkeypatch, free, state):
    archive_in(tmp_path / "not" / "yet")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 2**40 - free, free))
    assert states(service.the_archive) == [state]


def test_an_archive_that_cannot_be_written_to(archive_in):
    archive_in("/proc/1")
    assert "is not writable" in only(service.the_archive, "failure").found


def test_dead_letters_that_do_not_get_to_the_archive(archive_in, tmp_path, workflow):
    archive_in(tmp_path)
    now = clock.now()
    lane = opening.open_lane(workflow_id=workflow().pk, tenant="default")
    values = {"lane": lane, "source": "api", "payload": "{}", **error_fields(code="x", message="x")}
    DeadLetter.objects.create(**values, created_at=now, died_at=now, expires_at=now - 2 * DAY)
    Archive.objects.create(name="x", state="abandoned", lease_until=now, created_at=now)
    found = [one.found for one in service.the_archive() if one.state == "warning"]
    assert found == [
        "1 incomplete archive could not be removed.",
        "1 dead letter expired more than a day ago without being archived.",
    ]


def test_n8n_that_is_well(n8n, workflow):
    workflow("echo")
    assert states(outside.n8n) == ["ok", "ok"]
    assert [one.found for one in outside.webhooks()] == [
        "n8n accepts N8N_API_KEY.",
        "n8n has a published webhook for 1 active workflow.",
    ]


@pytest.mark.parametrize(
    ("answer", "state", "text"),
    [
        (503, "failure", "not ready (HTTP 503)"),
        (404, "warning", "but not like n8n (HTTP 404)"),
        (0, "failure", "does not answer"),
    ],
)
def test_n8n_that_is_not_well(n8n, answer, state, text):
    n8n.answer = lambda method, path: answer
    assert text in only(outside.n8n, state).found


def test_n8n_that_is_not_there(settings):
    settings.N8N_API_URL = "http://127.0.0.1:9"
    assert "N8N_WEBHOOK_URL" in only(outside.n8n, "failure").advice
    assert states(outside.webhooks) == ["skipped"]


def test_a_key_of_n8n_that_is_refused(n8n, settings):
    settings.N8N_API_KEY = "another"
    assert only(outside.webhooks, "failure").found == "n8n refused N8N_API_KEY (401)."
    settings.N8N_API_KEY = KEY
    n8n.scopes = set()
    assert "workflow:list" in only(outside.webhooks, "failure").found


def test_webhooks_that_n8n_does_not_have(n8n, workflow):
    workflow("echo"), workflow("gone"), workflow("asleep"), workflow("paused", paused=True)
    hook = {"name": "W", "type": "n8n-nodes-base.webhook", "parameters": {"path": "asleep", "httpMethod": "POST"}}
    n8n.workflows.append(n8n_workflow("wf2", "Asleep", nodes=[hook], active=False))
    found = [one.found for one in outside.webhooks() if one.state == "failure"]
    assert found == [
        "The workflow 'asleep' calls 'asleep', which is not published in n8n.",
        "The workflow 'gone' calls the webhook 'POST gone', which n8n does not have.",
    ]


def test_stripe_that_is_not_set_up(settings):
    settings.STRIPE_API_KEY, settings.STRIPE_WEBHOOK_SECRETS = "", []
    assert states(outside.stripe) == ["skipped"]


def test_stripe(vendor, settings):
    settings.STRIPE_WEBHOOK_SECRETS = []
    shop = StripeEndpoint.objects.create(slug="shop", mode="live", api_key="rk_test_9")
    found = list(outside.stripe())
    assert [(one.state, one.found) for one in found] == [
        ("failure", "The Stripe endpoint 'shop' has no active secret, so it refuses every event."),
        ("warning", "The API key of the Stripe endpoint 'shop' is for test mode, but the endpoint is for live mode."),
        ("ok", "Stripe accepts the API key of the endpoint 'default' (test mode)."),
    ]
    assert vendor.keys == {"sk_test_1"}
    StripeSecret.objects.create(endpoint=shop, secret="whsec_abcdef")
    assert next(iter(outside.stripe())).found == "The Stripe endpoint 'shop' has a secret."
    assert not any("sk_test" in f"{one.found}{one.advice}" for one in found)


def test_stripe_that_cannot_be_asked(settings):
    settings.STRIPE_API_KEY, settings.STRIPE_API_URL = "sk_test_1", "http://127.0.0.1:9"
    assert "Stripe does not answer" in only(outside.stripe, "failure").found


def test_cron_jobs_that_are_late():
    assert states(cron.cron_jobs) == ["ok"]
    CronJob.objects.create(slug="recap", name="Recap", period_seconds=60, active_since=clock.now() - DAY)
    found = only(cron.cron_jobs, "warning")
    assert "'recap' is missing" in found.found
    assert "POST /cron/recap/" in found.advice


def test_a_check_that_never_answers_or_breaks_keeps_no_other_from_its_turn(monkeypatch):
    released = threading.Event()

    def hang():
        released.wait(30)
        yield doctor.ok("at last")

    def breaks():
        yield doctor.ok("so far")
        raise ValueError("not a number")

    begun = time.monotonic()
    (hung,) = doctor.bounded(hang, limit=0.2)
    assert time.monotonic() - begun < 5
    released.set()
    assert (hung.state, "0.2 seconds" in hung.found) == (State.FAILURE, True)
    broken = doctor.bounded(breaks, limit=5)
    assert [one.state for one in broken] == [State.OK, State.FAILURE]
    assert "ValueError: not a number" in broken[1].found


def test_the_command(n8n, settings, workflow):
    out = StringIO()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")
    with pytest.raises(CommandError, match=r"checks? failed") as refused:
        call_command("doctor", stdout=out)
    assert refused.value.returncode == 1
    lines = out.getvalue().splitlines()
    (at,) = [place for place, line in enumerate(lines) if line.startswith("workers")]
    assert lines[at].split()[1] == "FAILURE"
    assert lines[at + 1].strip() == "-> Start one: ./manage.py worker."
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    out = StringIO()
    call_command("doctor", "--json", stdout=out)
    document = json.loads(out.getvalue())
    assert document["ok"] is True
    assert {one["check"] for one in document["findings"]} >= {"database", "n8n", "webhooks", "stripe", "cron jobs"}
    assert set(document["findings"][0]) == {"check", "state", "found", "advice"}


def test_it_changes_nothing(n8n, vendor):
    before = StripeEndpoint.objects.count()
    list(doctor.examine())
    assert StripeEndpoint.objects.count() == before
    assert {method for method, _, _ in n8n.asked} == {"GET"}
