"""Checks: how alerts stand from one to the next, who is told, and what quiet and an acknowledgement do."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reliability.alerts import check as alert_check
from reliability.alerts import readings as alert_readings
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.errors import InvalidInput, NotFound
from reliability.models import Alert, AlertNotice, AlertSilence, AuditEntry
from reliability.policies.alerts import Reading, State, Tell
from reliability.stats import process_stats
from reliability.stats.process_stats import Used

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ACTOR = Actor("user:ada", "the vendor moves")
pytestmark = pytest.mark.django_db


@pytest.fixture
def wrong(monkeypatch, settings):
    """What is read, to be changed by a test: `BacklogOld` of workflows, in seconds."""
    values: dict[str, float] = {}
    monkeypatch.setattr(
        alert_readings,
        "_sources",
        [lambda now: iter([Reading("BacklogOld", value, 600.0, workflow=name) for name, value in values.items()])],
    )
    monkeypatch.setattr(process_stats, "look", lambda *, now, keep=True: [])
    settings.ALERT_WEBHOOK_URL = "http://127.0.0.1:9/"
    settings.ALERT_REPEAT_MINUTES = 60
    return values


def told() -> list[tuple[str, str]]:
    """Every change that was ever told, in order."""
    notices = AlertNotice.objects.order_by("id")
    return [(one["workflow"], one["change"]) for notice in notices for one in notice.changes]


def test_an_alert_goes_its_way_and_each_change_is_told_once(wrong):
    now = clock.now()
    wrong["echo"] = 900.0
    alert_check.check(now=now)
    assert (Alert.objects.get().state, told()) == ("pending", [])
    alert_check.check(now=now + 5 * MINUTE)
    alert_check.check(now=now + 6 * MINUTE)
    fired = Alert.objects.get()
    assert (fired.state, fired.value, fired.limit, fired.severity) == ("firing", 900.0, 600.0, "warning")
    assert fired.pending_since == now
    assert fired.firing_since == now + 5 * MINUTE
    assert fired.summary == "The oldest delivery of echo has been due for 15 min; at most 10 min is expected."
    assert told() == [("echo", "firing")]
    alert_check.check(now=now + 66 * MINUTE)
    assert told()[1:] == [("echo", "still")]
    wrong.clear()
    found = alert_check.check(now=now + 67 * MINUTE)
    over = Alert.objects.get()
    assert (over.state, over.resolved_at, over.value) == ("resolved", now + 67 * MINUTE, 900.0)
    assert told()[2:] == [("echo", "resolved")]
    assert found.firing == 0
    lines = alert_check.check(now=now + 68 * MINUTE).lines
    assert len(told()) == 3
    assert lines[0].state is State.RESOLVED  # shown for an hour more
    wrong["echo"] = 900.0
    alert_check.check(now=now + 70 * MINUTE)
    alert_check.check(now=now + 75 * MINUTE)
    assert told()[3:] == [("echo", "firing")]
    assert Alert.objects.count() == 1


def test_what_was_pending_and_is_right_again_leaves_nothing(wrong):
    now = clock.now()
    wrong["echo"] = 900.0
    alert_check.check(now=now)
    wrong["echo"] = 5.0
    alert_check.check(now=now + MINUTE)
    assert not Alert.objects.exists()


def test_all_that_changed_is_one_notice_a_channel(wrong, settings):
    settings.ALERT_EMAILS = ["ada@example.com"]
    now = clock.now()
    wrong.update(a=900.0, b=900.0)
    alert_check.check(now=now)
    alert_check.check(now=now + 5 * MINUTE)
    assert {one.channel: len(one.changes) for one in AlertNotice.objects.all()} == {"mail": 2, "webhook": 2}
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'tell' AND status = 'todo'")
        assert cursor.fetchone()[0] == 2


def test_a_dry_run_changes_nothing(wrong):
    now = clock.now()
    wrong["echo"] = 900.0
    alert_check.check(now=now)
    found = alert_check.check(now=now + HOUR, dry_run=True)
    assert found.lines[0].state is State.FIRING
    assert found.lines[0].told is Tell.FIRING
    assert (Alert.objects.get().state, told()) == ("pending", [])


def test_a_quiet_period_tells_nothing_and_its_end_tells_what_is_still_so(wrong, workflow):
    workflow()
    now = clock.now()
    wrong.update(echo=900.0, other=900.0)
    made = alert_check.silence(actor=ACTOR, now=now, until=now + HOUR, workflow="echo")
    alert_check.check(now=now)
    found = alert_check.check(now=now + 5 * MINUTE)
    assert told() == [("other", "firing")]
    assert {line.workflow: line.is_quiet for line in found.lines if line.workflow} == {"echo": True, "other": False}
    alert_check.end_silence(silence_id=made.pk, actor=ACTOR, now=now + 6 * MINUTE)
    alert_check.check(now=now + 7 * MINUTE)
    assert told()[1:] == [("echo", "firing")]
    entries = AuditEntry.objects.order_by("id").values_list("action", "actor", "reason")
    assert list(entries) == [
        ("silence_alerts", *("user:ada", "the vendor moves")),
        ("end_silence", ACTOR.name, ACTOR.reason),
    ]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"until": None}, "until"),
        ({"until": -1}, "until"),
        ({"until": 1, "actor": Actor("user:ada", " ")}, "reason"),
        ({"until": 1, "alert": "Nonsense"}, "alert"),
        ({"until": 1, "workflow": "none"}, "workflow"),
    ],
)
def test_a_quiet_period_makes_sense(db, values, field):
    now = clock.now()
    until = values.pop("until")
    with pytest.raises(InvalidInput) as refusal:
        alert_check.silence(**{"actor": ACTOR, "now": now, "until": until and now + until * HOUR, **values})
    assert list(refusal.value.errors) == [field]
    assert not AlertSilence.objects.exists()


def test_whoever_takes_it_on_is_not_reminded(wrong):
    now = clock.now()
    wrong["echo"] = 900.0
    alert_check.check(now=now)
    pending = Alert.objects.get()
    with pytest.raises(alert_check.NotFiring):
        alert_check.acknowledge(alert_id=pending.pk, actor=ACTOR, now=now)
    alert_check.check(now=now + 5 * MINUTE)
    alert_check.acknowledge(alert_id=pending.pk, actor=ACTOR, now=now + 6 * MINUTE, until=now + 3 * HOUR)
    alert_check.check(now=now + 2 * HOUR)
    assert told() == [("echo", "firing")]
    found = Alert.objects.get()
    assert (found.acknowledged_by, found.acknowledged_reason) == ("user:ada", "the vendor moves")
    alert_check.check(now=now + 3 * HOUR)
    assert told()[1:] == [("echo", "still")]
    wrong.clear()
    alert_check.check(now=now + 4 * HOUR)
    over = Alert.objects.get()
    assert (over.acknowledged, over.acknowledged_by) == (False, "")
    assert AuditEntry.objects.get().action == "acknowledge_alert"


def test_what_is_not_there_cannot_be_acted_on(db):
    nobody = "018f0000-0000-7000-8000-000000000000"
    for act in (
        lambda: alert_check.acknowledge(alert_id=nobody, actor=ACTOR, now=clock.now()),
        lambda: alert_check.silence_one(alert_id=nobody, actor=ACTOR, now=clock.now(), until=clock.now() + HOUR),
        lambda: alert_check.end_silence(silence_id=nobody, actor=ACTOR, now=clock.now()),
    ):
        with pytest.raises(NotFound):
            act()


def test_processes_of_other_machines_are_left_to_those(wrong, monkeypatch):
    """A check knows its own machine's; what another one said stays, until nobody has for an hour."""
    now = clock.now()
    elsewhere = {"name": "MemoryHigh", "subject": "another:web:7", "severity": "warning", "value": 9, "limit": 1}
    Alert.objects.create(**elsewhere, state="firing", told="firing", firing_since=now, told_at=now, checked_at=now)
    here = "box:8"  # a worker: those write down themselves what they use
    monkeypatch.setattr(process_stats, "look", lambda *, now, keep=True: [Used(here, 10**12, 0.1)])
    alert_check.check(now=now + 50 * MINUTE)
    alert_check.check(now=now + 61 * MINUTE)
    assert dict(Alert.objects.values_list("subject", "state")) == {"another:web:7": "resolved", here: "firing"}


def test_lines_say_what_stands_out_first_and_the_closest_of_the_rest(wrong):
    now = clock.now()
    wrong.update(a=10.0, b=500.0)
    (line,) = [one for one in alert_check.check(now=now).lines if one.rule.name == "BacklogOld"]
    assert (line.state, line.value, line.limit) == (State.OK, 500.0, 600.0)
    wrong["c"] = 601.0
    found = alert_check.check(now=now).lines
    assert (found[0].rule.name, found[0].workflow, found[0].state) == ("BacklogOld", "c", State.PENDING)
    assert [one.rule.name for one in found].count("BacklogOld") == 1


@pytest.mark.django_db(transaction=True)
def test_two_checks_at_once_tell_it_once(wrong):
    now = clock.now()
    wrong.update({f"w{n}": 900.0 for n in range(20)})
    alert_check.check(now=now)
    gate = threading.Barrier(4)

    def check() -> None:
        try:
            gate.wait(timeout=20)
            alert_check.check(now=now + 5 * MINUTE)
        finally:
            connection.close()

    threads = [threading.Thread(target=check) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)
    assert sorted(told()) == sorted((f"w{n}", "firing") for n in range(20))


def test_many_alerts_cost_no_more_queries_than_one(wrong):
    now, counts = clock.now(), []
    for many in (1, 200):
        wrong.update({f"w{n}": 900.0 for n in range(many)})
        with CaptureQueriesContext(connection) as queries:
            alert_check.check(now=now)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12
    assert Alert.objects.count() == 200
    wrong.clear()
    with CaptureQueriesContext(connection) as queries:
        alert_check.check(now=now + MINUTE)
    assert len(queries) <= 12
    assert not Alert.objects.exists()
