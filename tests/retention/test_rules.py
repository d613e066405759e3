"""What each rule takes, and what it leaves for a living dead letter, a replay under way, or a later comparison."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from axes.models import AccessAttempt
from django.contrib.sessions.models import Session
from django.db import connection

from reliability import queue
from reliability.core import clock
from reliability.lanes import opening
from reliability.models import (
    Attempt,
    AuditEntry,
    DeadLetter,
    DeathRollup,
    Delivery,
    Execution,
    ExecutionRetry,
    FailureGroup,
    FailureReport,
    Operation,
    OperationTally,
    Rollup,
    StripeClaim,
    StripeEndpoint,
    StripeEvent,
    StripeRepeat,
    error_fields,
    ids,
)
from reliability.retention import runner

DAY = timedelta(days=1)
OLD, YOUNG = 91, 89  # days, about the retention of 90


def sweep(name: str, now) -> int:
    rule = next(one for one in runner.rules() if one.name == name)
    done = runner.apply(rule=rule, now=now, pace=runner.Pace(load=1.0))
    assert done.error == ""
    return done.rows


@pytest.fixture
def now(db):
    return clock.now()


@pytest.fixture
def lane(workflow):
    return opening.open_lane(workflow_id=workflow().pk, tenant="default")


@pytest.fixture
def make_id(now):
    """Return an id as if made so many days ago."""

    def make(days: float) -> UUID:
        return UUID(int=ids.at_least(now - days * DAY + ids.SKEW).int + uuid4().int % 2**60)

    return make


@pytest.fixture
def delivery(now, lane, make_id):
    def make(days: float = OLD, state: str = "delivered", **values) -> Delivery:
        at = now - days * DAY
        final = state in ("delivered", "dead", "cancelled", "skipped")
        return Delivery.objects.create(
            **{
                "pk": make_id(days + 0.1),
                "lane": lane,
                "idempotency_key": str(uuid4()),
                "payload": "{}",
                "payload_digest": b"1",
                "state": state,
                "due_at": at,
                "created_at": at,
                "finished_at": at if final else None,
                **values,
            }
        )

    return make


@pytest.fixture
def letter(now, lane, make_id):
    def make(days: float = OLD, status: str = "recovered", **values) -> DeadLetter:
        at = now - days * DAY
        return DeadLetter.objects.create(
            **{
                "pk": make_id(days + 1),
                "lane": lane,
                "source": "api",
                "status": status,
                "payload": "{}",
                **error_fields(code="x", message="x"),
                "created_at": at - DAY,
                "died_at": at - DAY,
                "expires_at": now + DAY,
                "closed_at": None if status in ("dead", "replaying") else at,
                **values,
            }
        )

    return make


@pytest.fixture
def attempt(now):
    def make(of: Delivery, days: float = OLD, number: int = 1) -> Attempt:
        at = now - days * DAY
        return Attempt.objects.create(delivery=of, number=number, result="transient", started_at=at, duration_ms=1)

    return make


@pytest.mark.parametrize("state", ["delivered", "dead", "cancelled", "skipped"])
def test_old_deliveries_go_with_their_attempts(delivery, attempt, now, lane, state):
    old, young = delivery(OLD, state), delivery(YOUNG, state)
    attempt(old), attempt(young)
    replay = delivery(YOUNG, replay_of=old, source="replay")
    execution = Execution.objects.create(
        lane=lane, delivery=old, execution_id="1", status="success", reported_at=now - YOUNG * DAY
    )
    report = FailureReport.objects.create(state="joined", delivery=old, reported_at=now - YOUNG * DAY)
    assert sweep("deliveries", now) == 1
    assert set(Delivery.objects.all()) == {young, replay}
    assert Attempt.objects.get().delivery_id == young.pk
    for row in (replay, execution, report):
        row.refresh_from_db()
    assert (replay.replay_of_id, execution.delivery_id, report.delivery_id) == (None, None, None)


@pytest.mark.parametrize("state", ["pending", "sending", "awaiting_callback"])
def test_what_has_not_ended_stays(delivery, now, state):
    lease = {"lease_token": uuid4(), "lease_until": now} if state == "sending" else {}
    delivery(OLD, state, **lease)
    assert sweep("deliveries", now) == 0


@pytest.mark.parametrize("status", ["dead", "replaying", "recovered", "purged", "archived"])
def test_a_delivery_stays_with_its_dead_letter(delivery, letter, attempt, now, status):
    died = delivery(OLD, "dead")
    entry = letter(YOUNG, status, delivery=died)
    attempt(died)
    replay = delivery(OLD, "dead", source="replay", dead_letter=entry)
    lives = status in ("dead", "replaying")
    assert sweep("attempts", now) == (0 if lives else 1)
    assert sweep("deliveries", now) == (0 if lives else 1)
    assert Delivery.objects.filter(pk=died.pk).exists()
    assert Delivery.objects.filter(pk=replay.pk).exists() == lives


def test_a_delivery_that_a_replay_or_a_held_one_needs_stays(delivery, now):
    first, second = delivery(OLD), delivery(OLD)
    delivery(1, "pending", replay_of=first, source="replay")
    delivery(1, "pending", waits_for=second.pk)
    assert sweep("deliveries", now) == 0


def test_the_newest_of_a_lane_that_skips_what_is_unchanged_stays(delivery, now, lane):
    delivery(OLD + 2)
    newest = delivery(OLD + 1)
    delivery(OLD, "skipped")
    lane.workflow.skip_unchanged = True
    lane.workflow.save()
    assert sweep("deliveries", now) == 2
    assert Delivery.objects.get() == newest
    lane.workflow.skip_unchanged = False
    lane.workflow.save()
    assert sweep("deliveries", now) == 1


def test_attempts_may_go_before_their_delivery(delivery, attempt, now, settings):
    settings.ATTEMPT_RETENTION_DAYS = 10
    done, waits = delivery(20), delivery(20, "pending")
    for number, days in enumerate((20, 15, 11), start=1):
        attempt(done, days, number)
    attempt(waits, 20)
    attempt(done, 5, 9)
    assert sweep("attempts", now) == 3
    assert {(one.delivery_id, one.number) for one in Attempt.objects.all()} == {(done.pk, 9), (waits.pk, 1)}


@pytest.mark.parametrize("status", ["recovered", "purged", "archived"])
def test_closed_letters_go_and_let_go_of_what_names_them(letter, delivery, now, status):
    old, young = letter(OLD, status), letter(YOUNG, status)
    undoable = letter(OLD, status, erase_at=now + DAY)
    replay = delivery(OLD, source="replay", dead_letter=old)
    report = FailureReport.objects.create(state="buried", dead_letter=old, reported_at=now)
    ExecutionRetry.objects.create(dead_letter=old, execution_id="1", state="failed", due_at=now, created_at=now)
    assert sweep(f"letters_{status}", now) == 1
    assert set(DeadLetter.objects.all()) == {young, undoable}
    replay.refresh_from_db(), report.refresh_from_db()
    assert (replay.dead_letter_id, report.dead_letter_id, ExecutionRetry.objects.count()) == (None, None, 0)


@pytest.mark.parametrize("status", ["dead", "replaying"])
def test_living_letters_stay(letter, now, status):
    letter(400, status)
    assert [sweep(f"letters_{one}", now) for one in ("recovered", "purged", "archived")] == [0, 0, 0]


def test_a_letter_stays_while_a_replay_of_it_is_under_way(letter, delivery, now):
    delivery(1, "pending", source="replay", dead_letter=letter(OLD))
    ExecutionRetry.objects.create(dead_letter=letter(OLD), execution_id="1", state="asked", due_at=now, created_at=now)
    assert sweep("letters_recovered", now) == 0


def test_reports_and_retries_go_but_for_those_of_living_letters(letter, delivery, make_id, now):
    living, closed = letter(OLD, "dead"), letter(YOUNG)
    joined = letter(OLD, "replaying", delivery=delivery(OLD, "dead"))
    values = [
        {"dead_letter": closed},
        {"dead_letter": None},
        {"dead_letter": living},
        {"delivery": joined.delivery},
        {"state": "looking_up"},
    ]
    for more in values:
        at = now - OLD * DAY
        FailureReport.objects.create(**{"pk": make_id(OLD), "state": "buried", "reported_at": at, **more})
    for one, state in ((living, "failed"), (closed, "succeeded"), (closed, "pending")):
        at = now - OLD * DAY
        times = {"due_at": at, "created_at": at, "finished_at": at}
        ExecutionRetry.objects.create(pk=make_id(OLD), dead_letter=one, execution_id="1", state=state, **times)
    assert (sweep("failure_reports", now), FailureReport.objects.count()) == (2, 3)
    assert (sweep("execution_retries", now), ExecutionRetry.objects.count()) == (1, 2)


def test_executions_go_but_for_those_whose_delivery_waits(delivery, make_id, lane, now):
    waits, done = delivery(OLD, "awaiting_callback"), delivery(OLD)
    for number, (days, of) in enumerate([(OLD, None), (OLD, done), (OLD, waits), (YOUNG, None)]):
        values = {"lane": lane, "delivery": of, "execution_id": str(number), "status": "success"}
        Execution.objects.create(pk=make_id(days), reported_at=now - days * DAY, **values)
    assert sweep("executions", now) == 2
    assert set(Execution.objects.values_list("execution_id", flat=True)) == {"2", "3"}


@pytest.mark.parametrize(("status", "left"), [("dead", 3), ("replaying", 3), ("recovered", 0), ("purged", 0)])
def test_executions_of_a_living_dead_letter_stay_as_long_as_it_does(delivery, letter, lane, make_id, now, status, left):
    one = letter(OLD, status, delivery=delivery(OLD, "dead"))
    letter(OLD, status, source="n8n", execution_id="3")
    letter(OLD, "dead")  # names no execution
    for number, of in enumerate([one.delivery, delivery(OLD, source="replay", dead_letter=one), None], start=1):
        values = {"lane": lane, "delivery": of, "execution_id": str(number), "status": "error"}
        Execution.objects.create(pk=make_id(OLD), reported_at=now - OLD * DAY, **values)
    assert (sweep("executions", now), Execution.objects.count()) == (3 - left, left)


def test_claims_go_late_and_ids_of_stripe_stay_for_good_unless_asked(make_id, now, settings):
    endpoint = StripeEndpoint.objects.create(slug="shop")
    for name, days in (("evt_old", 500), ("evt_young", 300)):
        at = now - days * DAY
        StripeClaim.objects.create(
            pk=make_id(days), tenant="default", event_id=name, status="processed", lease_until=at, created_at=at
        )
        event = StripeEvent.objects.create(
            pk=make_id(days),
            endpoint=endpoint,
            tenant="default",
            livemode=True,
            event_id=name,
            type="x",
            occurred_at=at,
            received_at=at,
        )
        StripeRepeat.objects.create(event=event, received_at=at)
    assert (sweep("stripe_claims", now), StripeClaim.objects.get().event_id) == (1, "evt_young")
    assert sweep("stripe_events", now) == 0
    settings.STRIPE_EVENT_RETENTION_DAYS = 400
    assert (sweep("stripe_events", now), StripeEvent.objects.get().event_id) == (1, "evt_young")
    assert StripeRepeat.objects.get().event.event_id == "evt_young"


def test_operations_go_once_nothing_names_them(delivery, letter, make_id, lane, now):
    def operation(state="done", days=401) -> Operation:
        at = now - days * DAY
        values = {"kind": "replay", "actor": "x", "cutoff": at, "created_at": at, "finished_at": at}
        return Operation.objects.create(pk=make_id(days), state=state, **values)

    forgotten, replayed, purged, runs, young = (
        operation(),
        operation(),
        operation(),
        operation("running"),
        operation(days=399),
    )
    OperationTally.objects.create(operation=forgotten, lane=lane)
    retried = ExecutionRetry.objects.create(
        dead_letter=letter(1), operation=forgotten, execution_id="1", state="failed", due_at=now, created_at=now
    )
    delivery(1, source="replay", operation=replayed)
    letter(1, "purged", purged_by=purged)
    assert sweep("operations", now) == 1
    assert set(Operation.objects.all()) == {replayed, purged, runs, young}
    retried.refresh_from_db()
    assert (retried.operation_id, OperationTally.objects.count()) == (None, 0)


@pytest.mark.parametrize(
    ("name", "model", "grain", "days"),
    [
        ("rollup_minutes", Rollup, "minute", 8),
        ("rollup_hours", Rollup, "hour", 400),
        ("death_rollup_minutes", DeathRollup, "minute", 8),
        ("death_rollup_hours", DeathRollup, "hour", 400),
    ],
)
def test_figures_go_by_their_grain(lane, now, name, model, grain, days):
    for age in (days + 1, days - 1):
        for one in ("minute", "hour"):
            model.objects.create(lane=lane, grain=one, at=now - age * DAY)
    assert sweep(name, now) == 1
    assert sorted(model.objects.filter(grain=grain).values_list("at", flat=True)) == [now - (days - 1) * DAY]
    assert model.objects.exclude(grain=grain).count() == 2


def test_groups_sessions_sign_ins_and_the_audit_log(lane, now):
    for name, dead in (("gone", 0), ("alive", 1)):
        at = now - 401 * DAY
        FailureGroup.objects.create(
            workflow=lane.workflow, fingerprint=name, reason="x", dead=dead, first_at=at, last_at=at
        )
    for name, days in (("over", -1), ("lasts", 1)):
        Session.objects.create(session_key=name, session_data="", expire_date=now + days * DAY)
    for name, days in (("old", 32), ("young", 30)):
        AccessAttempt.objects.create(username=name, failures_since_start=1)
        AccessAttempt.objects.filter(username=name).update(attempt_time=now - days * DAY)
    for days in (1101, 1099):
        AuditEntry.objects.create(at=now - days * DAY, actor="x", action=str(days))
    assert [sweep(name, now) for name in ("failure_groups", "sessions", "failed_sign_ins", "audit")] == [1, 1, 1, 1]
    left = (FailureGroup.objects.get().fingerprint, Session.objects.get().session_key)
    assert (*left, AccessAttempt.objects.get().username) == ("alive", "lasts", "young")
    assert AuditEntry.objects.get().action == "1099"


def test_ended_jobs_of_the_engine_go(now):
    """So do those whose worker is gone: nobody will ever end them, and the doctor would speak of them for good."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
        heard = "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - %s * interval '1 s') RETURNING id"
        workers = [cursor.execute(heard, [seconds]).fetchone()[0] for seconds in (5, 90)]
        doing = [("doing", worker) for worker in (*workers, None)]
        for status, worker in (("failed", None), ("aborted", None), ("todo", None), *doing):
            for days in (8, 6):
                cursor.execute(
                    "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)"
                    " VALUES ('x', %s, %s, %s) RETURNING id",
                    [str(days), status, worker],
                )
                moment = [cursor.fetchone()[0], now - days * DAY]
                cursor.execute("DELETE FROM procrastinate_events WHERE job_id = %s", moment[:1])
                cursor.execute("INSERT INTO procrastinate_events (job_id, type, at) VALUES (%s, 'started', %s)", moment)
    assert queue.ended_jobs(before=now - 7 * DAY, limit=10) == 4
    assert sweep("engine_jobs", now) == 4
    with connection.cursor() as cursor:
        cursor.execute("SELECT task_name, status FROM procrastinate_jobs ORDER BY id")
        left = cursor.fetchall()
    assert left[:4] == [("6", "failed"), ("6", "aborted"), ("8", "todo"), ("6", "todo")]
    assert left[4:] == [("8", "doing"), ("6", "doing"), ("6", "doing"), ("6", "doing")]


def test_a_rule_that_fails_keeps_no_other_from_its_turn(now, delivery, monkeypatch):
    delivery(OLD)
    broken = runner.delete_rule(name="broken", what="", age=timedelta, table="no_such_table", where="true")
    monkeypatch.setattr(runner, "_rules", {"broken": broken, **runner._rules})
    done = {one.name: one for one in runner.cleanup(now=now)}
    assert "no_such_table" in done["broken"].error
    assert (done["deliveries"].rows, done["deliveries"].error) == (1, "")


def test_it_stops_between_batches(now, delivery):
    delivery(OLD)
    done = list(runner.cleanup(now=now, pace=runner.Pace(stopping=lambda: True)))
    assert (done, Delivery.objects.count()) == ([], 1)
    seen = []
    pace = runner.Pace(stopping=lambda: bool(seen), watch=lambda name, rows: seen.append((name, rows)))
    first = list(runner.cleanup(now=now, only=["deliveries", "sessions"], pace=pace))
    assert [(one.name, one.rows, one.stopped) for one in first] == [("deliveries", 1, True)]


@pytest.mark.parametrize(("ages", "expected"), [([], 0), ([5, 4, 3], 0), ([200, 150, 100], 3), ([200, 91, 89, 1], 2)])
def test_the_place_in_a_table_is_found_by_id(now, delivery, attempt, ages, expected):
    one = delivery(1)
    for number, age in enumerate(ages, start=1):
        attempt(one, age, number)
    Attempt.objects.filter(number=2).update(id=10**12)  # a gap, as a sequence leaves them
    attempts = next(rule for rule in runner.rules() if rule.name == "attempts")
    assert attempts.count(now=now, limit=100) == len([age for age in ages if age > 90])
    assert attempts.count(now=now, limit=1) == min(1, expected)
