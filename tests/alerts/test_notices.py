"""Notices: sent once where all goes well, kept and tried again where it does not."""

import json
import threading
import time
from datetime import timedelta

import pytest
from django.db import connection

from reliability.alerts import notices
from reliability.core import clock
from reliability.models import Alert, AlertNotice, Delivery
from reliability.policies.alerts import ChangeKind

from ..support.mail import MailServer, closed_port
from ..support.receiver import Receiver, until

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def hook(settings):
    made = Receiver().start()
    settings.ALERT_WEBHOOK_URL = f"http://127.0.0.1:{made.port}/services/secret-token"
    settings.ALERT_TIMEOUT_SECONDS = 1
    yield made
    made.stop()


@pytest.fixture
def post_office(settings):
    made = MailServer()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", made.port, 1
    settings.ALERT_EMAILS = ["ada@example.com", "bob@example.com"]
    yield made
    made.hanging = False
    made.stop()


@pytest.fixture
def alert(db):
    def make(workflow: str = "echo") -> Alert:
        values = {"severity": "warning", "state": "firing", "value": 900.0, "limit": 600.0, "summary": "It is <old>."}
        now = clock.now()
        return Alert.objects.create(name="BacklogOld", workflow=workflow, firing_since=now, checked_at=now, **values)

    return make


def write(*told: tuple[Alert, ChangeKind]) -> AlertNotice:
    (pk,) = notices.write(told=told, now=clock.now())
    return AlertNotice.objects.get(pk=pk)


def test_a_webhook_gets_what_slack_reads(hook, alert):
    notice = write((alert(), ChangeKind.FIRING))
    (sent,) = notices.send_due(now=clock.now())
    assert (sent.channel, sent.error) == ("webhook", "")
    (got,) = hook.got
    assert got.key == str(notice.pk)
    assert got.json["text"].startswith(
        "[Backstop] Firing: BacklogOld\n\nFiring: BacklogOld (warning)\nIt is &lt;old&gt;."
    )
    assert "docs/runbook.md#backlogold" in got.json["text"]
    notice.refresh_from_db()
    assert (notice.state, notice.attempts, notice.error) == ("sent", 1, "")
    assert notice.sent_at is not None
    assert notices.send_due(now=clock.now()) == []


def test_a_mail_goes_to_all_of_them(post_office, alert, settings):
    settings.PUBLIC_URL, settings.ENVIRONMENT_NAME = "https://backstop.example.com", "staging"
    made = alert()
    notice = write((made, ChangeKind.RESOLVED))
    assert [one.error for one in notices.send_due(now=clock.now())] == [""]
    (message,) = post_office.messages
    assert post_office.recipients == ["ada@example.com", "bob@example.com"]
    assert "Subject: [Backstop staging] Resolved: BacklogOld\n" in message
    assert f"Message-ID: <{notice.pk}@backstop>" in message
    assert f"https://backstop.example.com/admin/reliability/alert/{made.pk}/change/" in message


def test_a_workflow_gets_a_delivery_once(alert, workflow, settings):
    workflow("pager", paused=True)
    settings.ALERT_WORKFLOW = "pager"
    notice = write((alert(), ChangeKind.FIRING))
    notices.send_due(now=clock.now())
    notice.refresh_from_db()
    (delivery,) = Delivery.objects.all()
    assert (notice.delivery_id, notice.state) == (delivery.pk, "sent")
    document = json.loads(delivery.payload)
    assert (document["notice"], document["changes"][0]["alert"]) == (str(notice.pk), "BacklogOld")
    # As after a crash between handing in and recording.
    AlertNotice.objects.update(state="waiting", delivery_id=None)
    notices.send_due(now=clock.now())
    assert Delivery.objects.count() == 1
    assert AlertNotice.objects.get().delivery_id == delivery.pk


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (lambda hook: hook.always(500), "The webhook answered HTTP 500."),
        (lambda hook: hook.always(302, headers={"Location": "http://127.0.0.1:9/"}), "The webhook answered HTTP 302."),
        (lambda hook: hook.always(200, wait=3), "The webhook cannot be reached: read_timeout."),
        (lambda hook: hook.always(0), "The webhook cannot be reached: connection_lost_after_send."),
        (lambda hook: hook.stop(), "The webhook cannot be reached: connection_refused."),
    ],
    ids=["500", "redirect", "hangs", "hangs up", "away"],
)
def test_a_webhook_that_fails_keeps_the_notice(hook, alert, break_it, error, caplog):
    notice = write((alert(), ChangeKind.FIRING))
    break_it(hook)
    began = time.monotonic()
    assert [one.error for one in notices.send_due(now=clock.now())] == [error]
    assert time.monotonic() - began < 3
    notice.refresh_from_db()
    assert (notice.state, notice.attempts, notice.error, notice.lease_until) == ("waiting", 1, error, None)
    assert timedelta(seconds=50) < notice.next_at - clock.now() <= MINUTE
    assert "secret-token" not in caplog.text + notice.error
    hook.stop()
    hook.start()
    hook.always(200)
    hook.got.clear()
    assert notices.send_due(now=clock.now()) == []  # its time has not come
    assert [one.error for one in notices.send_due(now=clock.now() + MINUTE)] == [""]
    assert [one.key for one in hook.got] == [str(notice.pk)]


def test_a_mail_server_that_hangs_refuses_or_is_away_holds_nothing_up(post_office, alert, settings):
    notice = write((alert(), ChangeKind.FIRING))
    post_office.hanging = True
    began = time.monotonic()
    (sent,) = notices.send_due(now=clock.now())
    assert time.monotonic() - began < 5
    assert sent.error == "The mail server cannot be used: Connection unexpectedly closed: timed out."
    post_office.hanging, post_office.refusing = False, True
    (sent,) = notices.send_due(now=clock.now() + MINUTE)
    assert sent.error == "The mail server answered with the code 451."
    settings.EMAIL_PORT = closed_port()
    (sent,) = notices.send_due(now=clock.now() + 10 * MINUTE)
    assert sent.error == "The mail server cannot be used: Connection refused."
    settings.EMAIL_PORT, post_office.refusing = post_office.port, False
    (sent,) = notices.send_due(now=clock.now() + 60 * MINUTE)
    assert sent.error == ""
    notice.refresh_from_db()
    assert (notice.state, notice.attempts, len(post_office.messages)) == ("sent", 4, 1)


@pytest.mark.parametrize(("attempts", "minutes"), [(0, 1), (1, 2), (3, 8), (6, 60), (500, 60)])
def test_it_waits_longer_each_time(hook, alert, attempts, minutes):
    hook.always(500)
    notice = write((alert(), ChangeKind.FIRING))
    AlertNotice.objects.update(attempts=attempts)
    notices.send_due(now=clock.now())
    notice.refresh_from_db()
    assert abs((notice.next_at - clock.now()).total_seconds() - 60 * minutes) < 10
    with connection.cursor() as cursor:
        key = f"tell:{notice.pk}"
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE queueing_lock = %s", [key])
        assert cursor.fetchone()[0] == 1


def test_a_workflow_that_is_not_there_is_told(alert, settings):
    settings.ALERT_WORKFLOW = "nobody"
    write((alert(), ChangeKind.FIRING))
    (sent,) = notices.send_due(now=clock.now())
    assert sent.error == "The workflow cannot be used: There is no workflow 'nobody'."


def test_one_channel_that_fails_keeps_no_other_from_it(hook, post_office, alert):
    post_office.refusing = True
    notices.write(told=[(alert(), ChangeKind.FIRING)], now=clock.now())
    sent = {one.channel: one.error for one in notices.send_due(now=clock.now())}
    assert sent == {"mail": "The mail server answered with the code 451.", "webhook": ""}


def test_a_channel_that_fails_is_tried_once_a_time(hook, post_office, alert):
    """Ten notices to a server that hangs would otherwise take ten timeouts."""
    for n in range(3):
        notices.write(told=[(alert(f"w{n}"), ChangeKind.FIRING)], now=clock.now())
    hook.always(500)
    sent = [(one.channel, bool(one.error)) for one in notices.send_due(now=clock.now())]
    assert sorted(sent) == [("mail", False)] * 3 + [("webhook", True)]
    hook.always(200)
    assert len(notices.send_due(now=clock.now() + MINUTE)) == 3
    assert not AlertNotice.objects.exclude(state="sent")


def test_a_crash_between_sending_and_recording_sends_again_under_the_same_key(hook, alert, monkeypatch):
    notice = write((alert(), ChangeKind.FIRING))
    with monkeypatch.context() as patch:
        patch.setattr(notices, "_record", lambda *args, **values: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            notices.send_due(now=clock.now())
    assert notices.send_due(now=clock.now()) == []  # its lease runs
    assert [one.error for one in notices.send_due(now=clock.now() + notices.LEASE)] == [""]
    assert [one.key for one in hook.got] == [str(notice.pk)] * 2
    with connection.cursor() as cursor:
        key = f"tell-stand-by:{notice.pk}"
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE queueing_lock = %s", [key])
        assert cursor.fetchone()[0] == 1


def test_a_sender_whose_lease_has_passed_on_records_nothing(hook, alert):
    notice = write((alert(), ChangeKind.FIRING))
    late = notices._claim(notice.pk, clock.now())
    notices._claim(notice.pk, clock.now() + notices.LEASE)
    assert not notices._record(late, state="sent")
    notice.refresh_from_db()
    assert (notice.state, notice.attempts) == ("waiting", 2)


def test_the_last_of_many_has_a_whole_lease_too(hook, alert):
    notice = write((alert(), ChangeKind.FIRING))
    begun = clock.now()
    notice.next_at = begun - 10 * MINUTE
    notice.save()
    claimed = notices._claim(notice.pk, begun - 10 * MINUTE)
    assert claimed.lease_until >= begun + notices.LEASE
    assert notices._claim(notice.pk, clock.now()) is None


def test_what_is_only_just_due_is_left_to_its_own_wake_up(hook, alert):
    notice = write((alert(), ChangeKind.FIRING))
    with connection.cursor() as cursor:
        notices.wake_overdue(now=clock.now())
        cursor.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE queueing_lock = %s", [f"tell-overdue:{notice.pk}"]
        )
        assert cursor.fetchone()[0] == 0


@pytest.mark.parametrize(
    ("waits", "leased", "goes"),
    [
        (timedelta(days=1), None, True),
        (MINUTE, None, False),
        (60 * MINUTE, None, False),
        (-2 * MINUTE, None, True),
        (-MINUTE, timedelta(days=1), True),
        (-MINUTE, notices.LEASE, False),
    ],
)
def test_a_clock_that_was_set_back_keeps_no_notice_waiting(hook, alert, waits, leased, goes):
    notice = write((alert(), ChangeKind.FIRING))
    now = clock.now()
    AlertNotice.objects.update(next_at=now + waits, lease_until=leased and now + leased)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = %s", [now + timedelta(days=1)])
        notices.wake_overdue(now=now)
        overdue = [f"tell-overdue:{notice.pk}"]
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE queueing_lock = ANY(%s)", [overdue])
        assert cursor.fetchone()[0] == goes
    assert (notices.send(notice_id=notice.pk) is not None) == goes


def test_a_reminder_that_was_not_sent_is_superseded_by_the_next(hook, alert):
    first, other = alert("a"), alert("b")
    fired = write((first, ChangeKind.FIRING))
    reminders = [write((first, ChangeKind.STILL)), write((other, ChangeKind.STILL)), write((first, ChangeKind.STILL))]
    states = [AlertNotice.objects.get(pk=one.pk).state for one in (fired, *reminders)]
    assert states == ["waiting", "superseded", "waiting", "waiting"]


def test_a_channel_that_was_taken_away_drops_what_it_had(hook, alert, settings):
    notice = write((alert(), ChangeKind.FIRING))
    settings.ALERT_WEBHOOK_URL = ""
    notices.send_due(now=clock.now())
    notice.refresh_from_db()
    assert (notice.state, hook.got) == ("dropped", [])


def test_without_a_channel_nothing_is_written(alert, caplog):
    assert notices.write(told=[(alert(), ChangeKind.FIRING)], now=clock.now()) == []
    (line,) = [one for one in caplog.records if one.message == "alert"]
    assert (line.levelname, line.alert, line.change) == ("WARNING", "BacklogOld", "firing")


@pytest.mark.django_db(transaction=True)
def test_many_senders_send_each_once(hook, alert):
    for n in range(12):
        write((alert(f"w{n}"), ChangeKind.FIRING))
    now, gate = clock.now(), threading.Barrier(4)

    def send() -> None:
        try:
            gate.wait(timeout=20)
            notices.send_due(now=now)
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)
    assert len(hook.keys) == 12
    assert set(hook.keys.values()) == {1}


@pytest.mark.django_db(transaction=True)
def test_a_worker_sends_what_failed_before_by_itself(hook, alert, workers):
    hook.always(500)
    write((alert(), ChangeKind.FIRING))
    workers.start(ALERT_WEBHOOK_URL=f"http://127.0.0.1:{hook.port}/services/secret-token")
    until(lambda: AlertNotice.objects.get().error, what="the first try")
    hook.always(200)
    # The hour is not waited for: its moment, and that of its wake-up, are brought forward.
    AlertNotice.objects.update(next_at=clock.now())
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_jobs SET scheduled_at = now(), args = args - 'at'"
            " WHERE task_name = 'tell' AND status = 'todo' AND queueing_lock NOT LIKE '%stand-by%'"
        )
        assert cursor.rowcount == 1
    until(lambda: AlertNotice.objects.get().state == "sent", what="the second try")
    assert len(hook.got) == 2
