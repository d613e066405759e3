"""How an alert stands, and what is told of it: tables of cases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.policies import alert_text, alerts
from reliability.policies.alert_rules import BY_NAME, RULES, Bound, Rule, Severity
from reliability.policies.alert_text import Change
from reliability.policies.alerts import AlertStatus, ChangeKind, Reading, Silence, State

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RULE = Rule("BacklogOld", Severity.WARNING, 5 * MINUTE, Bound.ABOVE, "{value}", limit=600.0, unit="s")
WRONG, RIGHT = Reading("BacklogOld", 900.0, 600.0, workflow="a"), Reading("BacklogOld", 10.0, 600.0, workflow="a")
FIRED = AlertStatus(State.FIRING, NOW - HOUR, NOW - HOUR, None, ChangeKind.FIRING, NOW - HOUR)
OVER = AlertStatus(State.RESOLVED, None, NOW - 2 * HOUR, NOW - HOUR, ChangeKind.RESOLVED, NOW - HOUR)
WAITING = AlertStatus(State.PENDING, NOW - 4 * MINUTE)
TAKEN = replace(FIRED, acknowledged=True)


def evaluate(status, reading, *, silenced=False, repeat=4 * HOUR, now=NOW):
    return alerts.evaluate(rule=RULE, reading=reading, status=status, silenced=silenced, repeat=repeat, now=now)


@pytest.mark.parametrize(
    ("status", "reading", "options", "state", "tell"),
    [
        # What is right stays right, and what is wrong waits for its time: 5 minutes.
        (AlertStatus(), RIGHT, {}, State.OK, None),
        (AlertStatus(), None, {}, State.OK, None),
        (AlertStatus(), WRONG, {}, State.PENDING, None),
        (WAITING, WRONG, {}, State.PENDING, None),
        (replace(WAITING, pending_since=NOW - 5 * MINUTE), WRONG, {}, State.FIRING, ChangeKind.FIRING),
        # Where the database knows since when, the first look is enough.
        (AlertStatus(), replace(WRONG, since=NOW - 5 * MINUTE), {}, State.FIRING, ChangeKind.FIRING),
        # Right again before its time: nobody hears of it.
        (WAITING, RIGHT, {}, State.OK, None),
        (replace(WAITING, resolved_at=NOW - HOUR), RIGHT, {}, State.RESOLVED, None),
        # Told once; again after the repeat period, unless somebody has taken it on.
        (FIRED, WRONG, {}, State.FIRING, None),
        (FIRED, WRONG, {"repeat": HOUR}, State.FIRING, ChangeKind.STILL),
        (FIRED, WRONG, {"repeat": HOUR + MINUTE}, State.FIRING, None),
        (FIRED, WRONG, {"repeat": timedelta(0)}, State.FIRING, None),
        (TAKEN, WRONG, {"repeat": HOUR}, State.FIRING, None),
        (replace(TAKEN, acknowledged_until=NOW + MINUTE), WRONG, {"repeat": HOUR}, State.FIRING, None),
        (replace(TAKEN, acknowledged_until=NOW), WRONG, {"repeat": HOUR}, State.FIRING, ChangeKind.STILL),
        # Over: told once, and back again: told anew.
        (FIRED, RIGHT, {}, State.RESOLVED, ChangeKind.RESOLVED),
        (FIRED, None, {}, State.RESOLVED, ChangeKind.RESOLVED),
        (TAKEN, RIGHT, {}, State.RESOLVED, ChangeKind.RESOLVED),
        (OVER, RIGHT, {}, State.RESOLVED, None),
        (replace(OVER, pending_since=NOW - 5 * MINUTE), WRONG, {}, State.FIRING, ChangeKind.FIRING),
        # A quiet period: nothing is told in it, and afterwards what is different from what was told last.
        (replace(WAITING, pending_since=NOW - 5 * MINUTE), WRONG, {"silenced": True}, State.FIRING, None),
        (replace(FIRED, told=None, told_at=None), WRONG, {}, State.FIRING, ChangeKind.FIRING),
        (replace(FIRED, told=None, told_at=None), RIGHT, {}, State.RESOLVED, None),
        (FIRED, RIGHT, {"silenced": True}, State.RESOLVED, None),
        (replace(OVER, told=ChangeKind.FIRING), RIGHT, {}, State.RESOLVED, ChangeKind.RESOLVED),
        (FIRED, WRONG, {"silenced": True, "repeat": MINUTE}, State.FIRING, None),
        # The clock was set back: nothing waits for it to catch up.
        (replace(WAITING, pending_since=NOW + HOUR), WRONG, {}, State.PENDING, None),
        (replace(FIRED, told_at=NOW + 48 * HOUR), WRONG, {"repeat": HOUR}, State.FIRING, None),
    ],
)
def test_what_becomes_of_an_alert(status, reading, options, state, tell):
    found = evaluate(status, reading, **options)
    assert (found.status.state, found.change) == (state, tell)


def test_a_clock_that_was_set_back_is_caught_up_with():
    ahead = evaluate(replace(FIRED, told_at=NOW + 48 * HOUR), WRONG, repeat=HOUR).status
    assert ahead.told_at == NOW
    assert evaluate(ahead, WRONG, repeat=HOUR, now=NOW + HOUR).change is ChangeKind.STILL
    pending = evaluate(replace(WAITING, pending_since=NOW + HOUR), WRONG).status
    assert evaluate(pending, WRONG, now=NOW + 5 * MINUTE).change is ChangeKind.FIRING


def test_whoever_took_it_on_has_done_so_until_it_is_over():
    over = evaluate(TAKEN, RIGHT).status
    assert not over.acknowledged
    again = evaluate(replace(over, pending_since=NOW - HOUR), WRONG)
    assert again.change is ChangeKind.FIRING


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 600)), max_size=60))
def test_nothing_is_told_twice(steps):
    """Firing and over take turns, and only what fires is told again, after the repeat period."""
    status, now, heard = AlertStatus(), NOW, []
    for wrong, silenced, minutes in steps:
        now += minutes * MINUTE
        found = evaluate(status, WRONG if wrong else RIGHT, silenced=silenced, repeat=4 * HOUR, now=now)
        status = found.status
        if found.change is not None:
            assert not silenced
            heard.append((found.change, now))
    news = [tell for tell, _ in heard if tell is not ChangeKind.STILL]
    assert news == [ChangeKind.FIRING if place % 2 == 0 else ChangeKind.RESOLVED for place in range(len(news))]
    for (_, before), (tell, at) in pairwise(heard):
        assert tell is not ChangeKind.STILL or at - before >= 4 * HOUR


@pytest.mark.parametrize(
    ("silence", "alert", "workflow", "silenced"),
    [
        (("", ""), "BreakerOpen", "a", True),
        (("", ""), "NoWorker", "", True),
        (("BreakerOpen", ""), "BreakerOpen", "a", True),
        (("BreakerOpen", ""), "BacklogOld", "a", False),
        (("", "a"), "BacklogOld", "a", True),
        (("", "a"), "BacklogOld", "b", False),
        (("", "a"), "NoWorker", "", False),
        (("BreakerOpen", "a"), "BreakerOpen", "b", False),
    ],
)
def test_what_a_silence_covers(silence, alert, workflow, silenced):
    for until, holds in ((NOW + MINUTE, silenced), (NOW, False)):
        made = [Silence(*silence, until)]
        assert alerts.is_silenced(silences=made, alert=alert, workflow=workflow, now=NOW) is holds


@pytest.mark.parametrize(
    ("bound", "value", "wrong"),
    [
        (Bound.ABOVE, 10.0, False),
        (Bound.ABOVE, 10.1, True),
        (Bound.FROM, 10.0, True),
        (Bound.FROM, 9.9, False),
        (Bound.BELOW, 10.0, False),
        (Bound.BELOW, 9.9, True),
        (Bound.BELOW, float("nan"), False),
        (Bound.ABOVE, float("nan"), False),
    ],
)
def test_a_value_is_held_against_its_limit(bound, value, wrong):
    assert replace(RULE, bound=bound).is_beyond_limit(value=value, limit=10.0) is wrong


SENTENCES = [
    (Reading("NoWorker", 0, 1), "No worker is running, so nothing is delivered."),
    (
        Reading("BreakerOpen", 843, 0, workflow="echo", tenant="acme", detail="http_503"),
        "The breaker of echo/acme has been open for 14 min: http_503",
    ),
    (
        Reading("BreakerOpenLong", 90_000, 3600, subject="n8n instance"),
        "The breaker of n8n instance has not closed for 1 d 1 h: no reason recorded",
    ),
    (Reading("CronJobLate", 45, 0, subject="recap", detail="missing"), "The cron job recap is missing: 45 s late."),
    (
        Reading("SuccessRateLow", 0.8754, 0.9, workflow="echo"),
        "Success rate of echo within 15 minutes: 87.5 % (minimum: 90.0 %).",
    ),
    (
        Reading("MemoryHigh", 700 * 1024 * 1024, 512 * 1024 * 1024, subject="box:worker:7"),
        "box:worker:7 uses 700 MB of memory (limit: 512 MB).",
    ),
    (
        Reading("DeadLettersMany", 12_345, 100, workflow="echo"),
        "echo has 12,345 dead letters (limit: 100).",
    ),
]


@pytest.mark.parametrize(("reading", "sentence"), SENTENCES, ids=[one.name for one, _ in SENTENCES])
def test_a_sentence_says_who_and_how_much(reading, sentence):
    assert alert_text.summary(reading=reading) == sentence


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_has_its_sentence(rule):
    said = alert_text.summary(reading=Reading(rule.name, 1, 1, workflow="echo", detail="{value} {0}\nnext"))
    assert said.endswith((".", "next"))
    assert "\n" not in said
    assert BY_NAME[rule.name] is rule


def change(name="BreakerOpen", tell=ChangeKind.FIRING, **values) -> Change:
    base = {"id": "1", "alert": name, "change": str(tell), "severity": "warning", "workflow": "echo", "tenant": ""}
    rest = {"subject": "", "value": 1.0, "limit": 0.0, "since": "2026-03-01T12:00:00+00:00", "summary": "It is <open>."}
    return Change(**{**base, **rest, "runbook": "docs/runbook.md#breakeropen", "console": "", **values})


def test_a_message_says_what_fires_first():
    many = [change("NoWorker", ChangeKind.RESOLVED), *(change(name) for name in ("A", "B", "A", "C", "D"))]
    assert alert_text.title(changes=many) == "[Backstop] Firing: A, B, C and 1 more; Resolved: NoWorker"
    assert alert_text.body(changes=[change()]) == (
        "Firing: BreakerOpen (warning)\nIt is <open>.\nSince 2026-03-01T12:00:00+00:00\n"
        "Runbook: docs/runbook.md#breakeropen\n"
    )


def test_slack_gets_no_mark_up_of_strangers():
    said = alert_text.slack(changes=[change(summary="<!channel> a & b")])
    assert "&lt;!channel&gt; a &amp; b" in said
    assert "<" not in said
