"""`manage.py worker`: each kind of work has its own loop, and a worker's start moves whatever stands still."""

import signal
import threading
import time
from datetime import timedelta

import psycopg
import pytest

from reliability import queue
from reliability.bulk import operations
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import create
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.models import (
    AlertNotice,
    DeadLetter,
    Delivery,
    ExecutionRetry,
    FailureReport,
    Operation,
    OperationKind,
)
from reliability.models.ids import uuid7
from reliability.n8n import execution_retry

from ..support.mail import MailServer
from ..support.n8n_api import KEY, FakeN8n
from ..support.queue import forget_all, rows
from ..support.receiver import Receiver, until
from ..support.workers import database_url

ACTOR = Actor("user:anna", "")
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hanging(n8n):
    """n8n's API, which answers nothing until the test is over."""
    over = threading.Event()
    n8n.answer = lambda method, path: over.wait(120) and 503
    yield n8n
    over.set()


@pytest.fixture
def mail():
    made = MailServer()
    yield made
    made.hanging = False
    made.stop()


def api_of(n8n: FakeN8n) -> dict[str, str]:
    return {"N8N_API_URL": n8n.url, "N8N_API_KEY": KEY}


def failures(count: int, *, slug: str = "echo") -> list[DeadLetter]:
    """Make dead letters of n8n's executions."""
    letters = [
        create.from_api(report=create.Report(slug, "default", "{}", f"it failed {n}"), now=clock.now())
        for n in range(count)
    ]
    for n, letter in enumerate(letters):
        DeadLetter.objects.filter(pk=letter.pk).update(execution_id=str(n + 1), source="n8n")
    return letters


def notice(channel: str = "mail") -> AlertNotice:
    """Make a notice that waits; no job is planned for it."""
    change = {
        "id": str(uuid7()),
        "alert": "NoWorker",
        "change": "firing",
        "severity": "critical",
        "workflow": "",
        "tenant": "",
        "subject": "",
        "value": 0.0,
        "limit": 0.0,
        "since": None,
        "summary": "No worker is alive.",
        "runbook": "",
        "console": "",
    }
    now = clock.now()
    return AlertNotice.objects.create(channel=channel, changes=[change], created_at=now, next_at=now)


def test_an_api_of_n8n_that_hangs_delays_neither_deliveries_nor_notices(
    workflow, receiver, workers, accept, hanging, mail
):
    workflow()
    letters = failures(300)
    execution_retry.begin_each(dead_letter_ids=[one.pk for one in letters], now=clock.now())
    workers.start(N8N_WEBHOOK_URL=receiver.url, EMAIL_URL=mail.url, ALERT_EMAILS="ops@example.com", **api_of(hanging))
    until(lambda: len(hanging.asked) >= 8, what="n8n's API being asked")
    begun = time.monotonic()
    accept({"n": "fresh"})
    receiver.wait_for(1, within=15)
    assert time.monotonic() - begun < 15
    queue.notify(notice_id=notice().pk)
    until(lambda: mail.messages, what="the notice")
    assert len(hanging.asked) == 8, "no more at once than there are threads"


def test_a_mail_server_that_hangs_delays_no_other_channel_and_no_look_up(workflow, receiver, workers, n8n, mail):
    workflow()
    n8n.add("7")
    mail.hanging = True
    hook = Receiver().start()
    workers.start(
        N8N_WEBHOOK_URL=receiver.url,
        EMAIL_URL=mail.url,
        ALERT_EMAILS="ops@example.com",
        ALERT_WEBHOOK_URL=hook.url,
        ALERT_TIMEOUT_SECONDS="30",
        **api_of(n8n),
    )
    for _ in range(10):
        queue.notify(notice_id=notice().pk)
    until(lambda: AlertNotice.objects.filter(lease_until__isnull=False).count() >= 2, what="mails under way")
    queue.notify(notice_id=notice("webhook").pk)
    hook.wait_for(1)
    hook.stop()
    report = FailureReport.objects.create(state="looking_up", execution_id="7", reported_at=clock.now())
    queue.look_up(report_id=report.pk)
    until(lambda: n8n.count("GET", "executions/7"), what="the look-up")


def test_an_operation_that_is_locked_delays_neither_others_nor_deliveries(workflow, receiver, workers, accept):
    workflow()
    workflow("other")
    failures(1)
    failures(1, slug="other")
    locked, free = (
        operations.submit(
            kind=OperationKind.PURGE, selection=DeadLetterFilter(workflow=slug), actor=ACTOR, now=clock.now()
        )
        for slug in ("echo", "other")
    )
    with psycopg.connect(database_url()) as other:
        other.execute("SELECT 1 FROM reliability_operation WHERE id = %s FOR UPDATE", [locked.pk])
        workers.start(N8N_WEBHOOK_URL=receiver.url)
        until(lambda: Operation.objects.get(pk=free.pk).state == "done", what="the other operation")
        accept({"n": 1})
        receiver.wait_for(1)
    until(lambda: Operation.objects.get(pk=locked.pk).state == "done", within=40, what="the one that was locked")


@pytest.mark.parametrize("only", ["dispatch", "n8n"])
def test_a_worker_may_run_one_loop_only(workflow, receiver, workers, accept, n8n, only):
    workflow()
    n8n.add("1")
    (letter,) = failures(1)
    worker = workers.start("--only", only, N8N_WEBHOOK_URL=receiver.url, **api_of(n8n))
    execution_retry.begin_each(dead_letter_ids=[letter.pk], now=clock.now())
    accept({"n": 1})
    if only == "dispatch":
        receiver.wait_for(1)
    else:
        until(lambda: n8n.count("POST", "retry"), what="the retry")
    time.sleep(1)
    assert bool(receiver.got) is (only == "dispatch")
    assert bool(n8n.asked) is (only == "n8n")
    assert workers.end(worker) < 30
    assert worker.returncode == 0


def test_procrastinates_own_command_still_does_all_of_it(workflow, receiver, workers, accept, n8n):
    workflow()
    n8n.add("1")
    (letter,) = failures(1)
    execution_retry.begin_each(dead_letter_ids=[letter.pk], now=clock.now())
    worker = workers.start(command=("procrastinate", "worker"), N8N_WEBHOOK_URL=receiver.url, **api_of(n8n))
    accept({"n": 1})
    receiver.wait_for(1)
    until(lambda: n8n.count("POST", "retry"), what="the retry")
    assert workers.end(worker) < 30


def test_a_worker_that_was_stopped_for_a_minute_goes_on_and_does_no_harm(workflow, receiver, workers, accept):
    workflow()
    stopped = workers.start(N8N_WEBHOOK_URL=receiver.url)
    accept({"n": 1})
    receiver.wait_for(1)
    stopped.send_signal(signal.SIGSTOP)
    rows("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 seconds'")
    other = workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: len(rows("SELECT id FROM procrastinate_workers")) == 1, what="the other alone")
    workers.kill(other)
    stopped.send_signal(signal.SIGCONT)
    accept({"n": 2})
    receiver.wait_for(2, within=40)
    assert stopped.poll() is None
    assert set(receiver.keys.values()) == {1}


# --- What a start moves --------------------------------------------------------------------------------------


def test_the_rows_of_a_backup_without_jobs_move_as_soon_as_a_worker_starts(
    workflow, receiver, workers, accept, n8n, mail
):
    workflow()
    accept({"n": 1})
    n8n.add("1")
    n8n.add("7")
    (letter,) = failures(1)
    execution_retry.begin_each(dead_letter_ids=[letter.pk], now=clock.now())
    report = FailureReport.objects.create(state="looking_up", execution_id="7", reported_at=clock.now())
    notice()
    forget_all()
    workers.start(N8N_WEBHOOK_URL=receiver.url, EMAIL_URL=mail.url, ALERT_EMAILS="ops@example.com", **api_of(n8n))
    receiver.wait_for(1)
    until(lambda: ExecutionRetry.objects.get().state == "succeeded", what="the retry")
    until(lambda: FailureReport.objects.get(pk=report.pk).state != "looking_up", what="the look-up")
    until(lambda: mail.messages, what="the notice")


def test_what_is_due_later_moves_on_time(workflow, receiver, workers, accept, n8n):
    workflow()
    n8n.add("1")
    (letter,) = failures(1)
    later = clock.now() + timedelta(seconds=8)
    accept({"n": 1}, deliver_at=later)
    (made,) = execution_retry.begin_each(dead_letter_ids=[letter.pk], now=clock.now(), due={letter.pk: later})
    forget_all()
    workers.start(N8N_WEBHOOK_URL=receiver.url, **api_of(n8n))
    planned = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo' AND queueing_lock = %s"
    # A loaded machine may need longer for a worker's start: then it is due already, and never seen as a plan.
    until(lambda: rows(planned, f"sweep:retry:{made.pk}") == [(1,)] or clock.now() >= later, what="a plan")
    assert not n8n.asked or clock.now() >= later
    assert receiver.wait_for(1)[0].at >= later.timestamp()
    until(lambda: n8n.count("POST", "retry"), what="the retry")
    assert clock.now() >= later


def test_a_start_goes_on_until_it_has_succeeded(workflow, receiver, workers, accept):
    workflow()
    accept({"n": 1})
    forget_all()
    rows("ALTER TABLE reliability_lane RENAME TO away")
    try:
        worker = workers.start(N8N_WEBHOOK_URL=receiver.url)
        until(lambda: "sweep_failed" in worker.log.read_text(), what="a sweep that fails")
        assert not receiver.got
    finally:
        rows("ALTER TABLE away RENAME TO reliability_lane")
    receiver.wait_for(1, within=60)


def test_a_lane_that_another_session_holds_keeps_no_other_from_moving(workflow, receiver, workers, accept):
    workflow()
    workflow("other")
    lane_id = accept({"n": 1}).lane_id
    accept({"n": 2}, workflow="other")
    forget_all()
    with psycopg.connect(database_url()) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(1112757840, %s)", [lane_id])
        workers.start(N8N_WEBHOOK_URL=receiver.url)
        receiver.wait_for(1, within=40)
        assert [got.path for got in receiver.got] == ["/webhook/other"]
        holder.rollback()
    receiver.wait_for(2, within=60)


def test_a_lane_that_another_session_woke_and_did_not_commit_moves(workflow, receiver, workers, accept):
    workflow()
    lane_id = accept().lane_id
    forget_all()
    with psycopg.connect(database_url()) as holder:
        holder.execute("SELECT backstop_wake(%s)", [lane_id])
        workers.start(N8N_WEBHOOK_URL=receiver.url)
        receiver.wait_for(1, within=60)
        holder.rollback()


def test_jobs_in_the_hands_of_a_killed_worker_go_with_the_next_one(workflow, receiver, workers, accept):
    workflow(timeout_ms=1000)
    receiver.always(wait=60)
    accept({"n": 1})
    killed = workers.start(N8N_WEBHOOK_URL=receiver.url)
    receiver.wait_for(1)
    workers.kill(killed)
    doing = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"
    assert rows(doing) != [(0,)]
    rows("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 seconds'")
    receiver.always()
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: Delivery.objects.get().state == "delivered", within=60, what="the delivery")
    until(lambda: rows(doing) == [(0,)], what="the job's end")
    assert rows("SELECT count(*) FROM procrastinate_workers") == [(1,)]
