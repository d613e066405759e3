"""Bulk operations: what they match, how they end, what stops them, and what is on record."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction

from reliability.bulk import operations
from reliability.bulk.steps import step
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters import purge, replay
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.delivery import control
from reliability.errors import Conflict, InvalidInput, NotFound, NotReplayable
from reliability.lanes import opening
from reliability.models import (
    AuditEntry,
    DeadLetter,
    DeadLetterStatus,
    Delivery,
    ExecutionRetry,
    Operation,
    OperationKind,
)
from reliability.models.ids import uuid7
from reliability.n8n import execution_retry_end
from reliability.retention import rules, runner

pytestmark = pytest.mark.django_db(transaction=True)
ACTOR = Actor("user:anna", "the vendor is back")
ANY = DeadLetterFilter()


@pytest.fixture
def letters(workflow):
    """Make dead letters of a workflow; each its own payload."""

    def make(count: int = 10, *, slug: str = "echo", tenant: str = "default", **values) -> list[DeadLetter]:
        from reliability.models import Workflow

        made = Workflow.objects.filter(slug=slug).first() or workflow(
            slug, max_retries=0, circuit_breaker_threshold=100_000, concurrency_limit=20
        )
        lane, now = opening.open_lane(workflow_id=made.pk, tenant=tenant), clock.now()
        plain = {"source": "api", "error_code": "http_500", "reason": "http_5xx", "expires_at": now + timedelta(days=1)}
        moments = {"created_at": now, "died_at": now}
        return DeadLetter.objects.bulk_create(
            DeadLetter(lane=lane, payload=f'{{"n": {n}}}', **{**plain, **moments, **values}) for n in range(count)
        )

    return make


def submit(kind=OperationKind.REPLAY, selection=ANY, **values) -> Operation:
    return operations.submit(kind=kind, selection=selection, actor=ACTOR, now=clock.now(), **values)


def work(operation: Operation, *, steps: int = 1000) -> Operation:
    """Do steps without waiting for the rate, until none is planned; what has one planned does it first."""
    operation.refresh_from_db()
    now = max(clock.now(), operation.next_at or clock.now())
    for _ in range(steps):
        if (now := step(operation_id=operation.pk, now=now)) is None:
            break
    operation.refresh_from_db()
    return operation


def end_all(operation: Operation, state: str = "delivered", *, limit: int | None = None) -> None:
    """Let replays end as a settling worker would write it down."""
    letters = {"delivered": "recovered", "dead": "dead"}
    for one in operation.deliveries.filter(state="pending").order_by("id")[:limit]:
        Delivery.objects.filter(pk=one.pk).update(state=state, finished_at=clock.now())
        DeadLetter.objects.filter(pk=one.dead_letter_id).update(status=letters[state])


def test_it_goes_oldest_first_and_is_done_when_all_have_ended(letters):
    made = letters(12)
    operation = work(submit(rate_per_second=5))
    assert (operation.state, operation.done, operation.in_flight, operation.next_at) == ("running", 12, 12, None)
    due = operation.deliveries.order_by("due_at").values_list("dead_letter_id", flat=True)
    assert list(due) == [one.pk for one in made]
    end_all(operation, limit=9)
    assert work(operation).state == "running"
    end_all(operation, "dead")
    operation = work(operation)
    assert (operation.state, operation.recovered, operation.failed, operation.in_flight) == ("done", 9, 3, 0)
    assert operation.note == "9 recovered, 3 failed again."
    assert operation.finished_at


def test_an_end_is_counted_once_however_it_moves(letters):
    letters(3)
    operation = work(submit())
    one, two, three = operation.deliveries.order_by("id")
    for state in ("sending", "awaiting_callback", "delivered", "dead"):  # n8n reported a failure after its answer
        values = {"lease_token": uuid7(), "lease_until": clock.now()} if state == "sending" else {}
        Delivery.objects.filter(pk=one.pk).update(state=state, **values)
    Delivery.objects.filter(pk=two.pk).update(state="delivered")
    Delivery.objects.filter(pk=two.pk).update(state="delivered", last_error="x")
    control.cancel(delivery_id=three.pk, actor=ACTOR, now=clock.now())
    ends = operation.ends
    assert (ends.recovered, ends.failed, ends.withdrawn) == (1, 1, 1)
    assert work(operation).note == "1 recovered, 1 failed again, 1 withdrawn."


def test_a_canary_goes_first_and_alone(letters):
    made = letters(10)
    operation = work(submit(canary=True))
    assert (operation.state, operation.done, operation.next_at) == ("running", 1, None)
    assert operation.canary_letter == made[0].pk
    assert work(operation).done == 1
    end_all(operation)
    assert work(operation).done == 10


def test_a_canary_that_fails_stops_all(letters):
    letters(10)
    operation = work(submit(canary=True))
    end_all(operation, "dead")
    operation = work(operation)
    assert (operation.state, operation.done, operation.failed) == ("stopped", 1, 1)
    assert operation.note == "The canary failed; the rest were not sent."
    assert DeadLetter.objects.filter(status="dead").count() == 10


def test_a_canary_that_was_cancelled_hands_on_to_the_next(letters):
    letters(3)
    operation = work(submit(canary=True))
    control.cancel(delivery_id=operation.deliveries.get().pk, actor=ACTOR, now=clock.now())
    operation = work(operation)
    assert (operation.state, operation.done, operation.ends.withdrawn) == ("running", 2, 1)


def test_too_many_failures_stop_it_and_what_was_not_sent_is_withdrawn(letters):
    letters(40)
    operation = work(submit(rate_per_second=10, stop_failure_rate=0.3), steps=1)
    end_all(operation, "dead", limit=3)  # three of ten may: all the same, three of three do not stop it
    work(operation, steps=1)
    end_all(operation, "dead", limit=4)
    operation = work(operation)
    assert (operation.state, operation.done, operation.failed) == ("stopped", 20, 7)
    assert "7 of 7" in operation.note
    assert operation.ends.withdrawn == 13
    assert DeadLetter.objects.filter(status="dead").count() == 40
    assert not operation.deliveries.filter(state="pending").exists()


def test_pause_go_on_and_another_rate(letters):
    letters(30)
    operation = work(submit(rate_per_second=5), steps=1)
    operations.pause(operation_id=operation.pk, actor=ACTOR, now=clock.now())
    assert work(operation).done == 5
    operations.set_rate(operation_id=operation.pk, rate_per_second=15, actor=ACTOR, now=clock.now())
    operations.resume(operation_id=operation.pk, actor=ACTOR, now=clock.now())
    assert work(operation, steps=1).done == 20
    actions = AuditEntry.objects.order_by("id").values_list("action", flat=True)
    assert list(actions) == ["bulk_replay", "pause_operation", "set_operation_rate", "resume_operation"]
    assert set(AuditEntry.objects.values_list("reason", flat=True)) == {ACTOR.reason}


def test_a_higher_rate_does_not_wait_for_the_next_step_of_the_lower_one(letters):
    letters(3)
    operation = work(submit(rate_per_second=0.01), steps=1)
    now = clock.now()
    assert operation.next_at > now + timedelta(seconds=90)
    operation = operations.set_rate(operation_id=operation.pk, rate_per_second=10, actor=ACTOR, now=now)
    assert operation.next_at == now + timedelta(seconds=0.1)


def test_cancel_withdraws_what_was_not_sent(letters):
    made = letters(30)
    operation = work(submit(rate_per_second=10), steps=1)
    sent = operation.deliveries.order_by("id").first()
    Delivery.objects.filter(pk=sent.pk).update(attempt_count=1)
    operations.cancel(operation_id=operation.pk, actor=ACTOR, now=clock.now())
    operation = work(operation)
    assert (operation.state, operation.done, operation.ends.withdrawn, operation.in_flight) == ("cancelled", 10, 9, 1)
    assert DeadLetter.objects.get(pk=made[0].pk).status == "replaying"
    assert DeadLetter.objects.filter(status="dead").count() == 29
    for act in (operations.pause, operations.resume, operations.cancel):
        with pytest.raises(operations.NotControllable):
            act(operation_id=operation.pk, actor=ACTOR, now=clock.now())


def test_what_is_withdrawn_stays_for_another_ttl(letters, settings):
    made = letters(3)
    operation = work(submit(rate_per_second=10), steps=1)
    DeadLetter.objects.update(expires_at=clock.now() - timedelta(hours=1))
    operations.cancel(operation_id=operation.pk, actor=ACTOR, now=clock.now())
    work(operation)
    left = DeadLetter.objects.filter(status="dead", expires_at__gt=clock.now() + timedelta(hours=23))
    assert left.count() == len(made)


def test_the_cut_off_and_those_that_left_before_their_turn(letters):
    made = letters(10)
    cutoff = clock.now()
    letters(5)
    operation = submit(cutoff=cutoff)
    assert operation.matched == 10
    purge.purge(dead_letter_id=made[3].pk, actor=ACTOR, now=clock.now())
    replay.replay(dead_letter_id=made[4].pk, actor=ACTOR, now=clock.now())
    operation = work(operation)
    assert (operation.done, operation.skipped, operation.skipped_by) == (8, 2, {"no_longer_dead": 2})
    assert DeadLetter.objects.filter(status="dead").count() == 5


def test_an_answer_given_twice_starts_one(letters):
    letters(3)
    pk = uuid7()
    first, second = submit(operation_id=pk), submit(operation_id=pk, rate_per_second=1)
    assert first.pk == second.pk == pk
    assert Operation.objects.get().rate_per_second == 5
    assert AuditEntry.objects.count() == 1


def test_two_operations_at_once_replay_each_letter_once(letters):
    letters(10)
    one, two = submit(rate_per_second=3), submit(rate_per_second=3)
    for _ in range(8):
        work(one, steps=1), work(two, steps=1)
        Operation.objects.filter(next_at__isnull=False).update(next_at=clock.now())
    assert Delivery.objects.filter(source="replay").count() == 10
    one.refresh_from_db(), two.refresh_from_db()
    assert (one.done + two.done, one.skipped + two.skipped) == (10, 10)


def test_what_n8n_reported_is_retried_there_or_passed_over_by_cause(letters, settings):
    letters(2)
    letters(3, source="n8n", execution_id="")
    letters(4, source="n8n", execution_id="7")
    looked = operations.preview(kind=OperationKind.REPLAY, selection=ANY, now=clock.now())
    causes = {"no_execution": 3, "n8n_not_configured": 4}
    assert (looked.matched, looked.will, looked.skipped) == (9, 2, causes)
    settings.N8N_API_KEY = "a-key"
    looked = operations.preview(kind=OperationKind.REPLAY, selection=ANY, now=clock.now())
    assert (looked.matched, looked.will, looked.skipped) == (9, 6, {"no_execution": 3})
    operation = work(submit())
    assert (operation.done, operation.skipped_by) == (6, {"no_execution": 3})
    for retry, good in zip(ExecutionRetry.objects.order_by("id"), (True, True, True, False), strict=True):
        execution_retry_end.finish(retry=retry, succeeded=good, now=clock.now(), error="again")
    end_all(operation)
    operation = work(operation)
    assert (operation.state, operation.recovered, operation.failed) == ("done", 5, 1)


def test_a_preview_says_what_is_where_and_how_long_it_takes(letters):
    letters(6)
    letters(2, slug="other", reason="timeout")
    letters(1, tenant="acme")
    looked = operations.preview(kind=OperationKind.REPLAY, selection=ANY, now=clock.now(), rate_per_second=3)
    assert (looked.by_workflow, looked.by_reason) == ({"echo": 7, "other": 2}, {"http_5xx": 7, "timeout": 2})
    assert (looked.seconds, len(looked.samples)) == (3, 5)
    assert looked.samples[0].pk == DeadLetter.objects.order_by("id").first().pk
    narrow = operations.preview(
        kind=OperationKind.PURGE, selection=DeadLetterFilter(workflow="echo", tenant="acme"), now=clock.now()
    )
    assert (narrow.matched, narrow.will) == (1, 1)


@pytest.mark.parametrize("values", [{"rate_per_second": 0}, {"rate_per_second": float("nan")},
    {"rate_per_second": 1001}, {"stop_failure_rate": 1.1}, {"stop_failure_rate": float("nan")}], ids=str)  # fmt: skip
def test_what_makes_no_sense_is_refused(letters, values):
    letters(1)
    with pytest.raises(InvalidInput):
        submit(**values)
    assert not Operation.objects.exists()


def test_a_purge_can_be_undone_for_some_days(letters, settings):
    first, second = letters(2, expires_at=clock.now() - timedelta(hours=1))
    now = clock.now()
    for one in (first, second):
        purge.purge(dead_letter_id=one.pk, actor=ACTOR, now=now)
    first.refresh_from_db()
    assert (first.status, first.erase_at) == ("purged", now + timedelta(days=7))
    operations.undo_purge(dead_letter_id=first.pk, actor=ACTOR, now=now + timedelta(days=6))
    first.refresh_from_db()
    assert (first.status, first.erase_at, first.closed_at) == ("dead", None, None)
    assert first.expires_at == now + timedelta(days=7)  # another TTL, so that clean-up does not take it at once
    with pytest.raises(NotReplayable, match="too long ago"):
        operations.undo_purge(dead_letter_id=second.pk, actor=ACTOR, now=now + timedelta(days=8))
    with pytest.raises(NotReplayable, match="is dead"):
        operations.undo_purge(dead_letter_id=first.pk, actor=ACTOR, now=now)
    with pytest.raises(NotFound):
        operations.undo_purge(dead_letter_id=uuid7(), actor=ACTOR, now=now)
    assert AuditEntry.objects.get(action="undo_purge").target_id == str(first.pk)


def test_a_bulk_purge_is_undone_by_an_operation_of_its_own(letters):
    made = letters(12)
    purge = submit(OperationKind.PURGE)
    with pytest.raises(Conflict):
        operations.undo_purge(operation_id=purge.pk, actor=ACTOR, now=clock.now())
    purge = work(purge)
    assert (purge.state, purge.done, purge.note, purge.in_flight) == ("done", 12, "12 purged.", 0)
    assert operations.undoable(operation=purge, now=clock.now()) == 12
    operations.undo_purge(dead_letter_id=made[0].pk, actor=ACTOR, now=clock.now())
    undo = operations.undo_purge(operation_id=purge.pk, actor=ACTOR, now=clock.now())
    with pytest.raises(Conflict, match="being undone already"):  # as a button that is pressed twice
        operations.undo_purge(operation_id=purge.pk, actor=ACTOR, now=clock.now())
    undo = work(undo)
    assert (undo.kind, undo.state, undo.matched, undo.done) == ("restore", "done", 11, 11)
    assert DeadLetter.objects.filter(status=DeadLetterStatus.DEAD, purged_by=purge).count() == 12
    with pytest.raises(Conflict):
        operations.undo_purge(operation_id=purge.pk, actor=ACTOR, now=clock.now())
    with pytest.raises(Conflict):
        operations.undo_purge(operation_id=undo.pk, actor=ACTOR, now=clock.now())


def test_a_purged_payload_is_erased_wherever_it_is_kept(workflow, accept, letters, receiver, drain, settings):
    workflow(max_retries=0)
    receiver.always(422)
    delivery = accept({"card": "4242"})
    drain()
    letter = DeadLetter.objects.get()
    replay.replay(dead_letter_id=letter.pk, actor=ACTOR, now=clock.now())
    drain()
    now = clock.now()
    purge.purge(dead_letter_id=letter.pk, actor=ACTOR, now=now)
    kept = letters(1)[0]
    assert runner.apply(rule=rules.PURGED_PAYLOADS, now=now + timedelta(days=6)).rows == 0
    assert runner.count_due(rule=rules.PURGED_PAYLOADS, now=now + timedelta(days=8)) == 1
    assert runner.apply(rule=rules.PURGED_PAYLOADS, now=now + timedelta(days=8)).rows == 1
    letter.refresh_from_db(), delivery.refresh_from_db(), kept.refresh_from_db()
    assert (letter.status, letter.payload, letter.document, letter.erase_at) == ("purged", "", None, None)
    assert set(Delivery.objects.values_list("payload", flat=True)) == {""}
    assert bytes(delivery.payload_digest)
    assert kept.payload
    with pytest.raises(NotReplayable):
        operations.undo_purge(dead_letter_id=letter.pk, actor=ACTOR, now=now)
    assert runner.apply(rule=rules.PURGED_PAYLOADS, now=now + timedelta(days=9)).rows == 0


def jobs(operation: Operation) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT queueing_lock FROM procrastinate_jobs WHERE status = 'todo' ORDER BY 1")
        return [lock for (lock,) in cursor.fetchall() if str(operation.pk) in lock]


def test_an_end_wakes_an_operation_that_waits_and_no_other(letters):
    letters(2)
    operation = work(submit())
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
    one, two = operation.deliveries.order_by("id")
    operations.pause(operation_id=operation.pk, actor=ACTOR, now=clock.now())
    Delivery.objects.filter(pk=one.pk).update(state="delivered")
    assert jobs(operation) == []
    Operation.objects.filter(pk=operation.pk).update(state="running")
    Delivery.objects.filter(pk=two.pk).update(state="delivered")
    assert jobs(operation) == [f"operation-stand-by:{operation.pk}", f"operation:{operation.pk}"]


def test_an_end_that_is_just_being_written_is_not_missed(letters):
    letters(1)
    operation = submit()
    following = step(operation_id=operation.pk, now=clock.now())

    def look():
        try:
            step(operation_id=operation.pk, now=following)
        finally:
            connection.close()

    thread = threading.Thread(target=look)
    with transaction.atomic():
        operation.deliveries.update(state="delivered")
        thread.start()
        time.sleep(0.5)
        assert thread.is_alive()  # about to wait, it waits first for what is being written
    thread.join(timeout=10)
    operation.refresh_from_db()
    assert operation.next_at == following
    assert work(operation).state == "done"


def test_a_step_does_not_wait_for_ends_that_are_being_written(letters):
    """Nor they for it: what both need is locked in one order, or shared."""
    letters(10)
    operation = work(submit(rate_per_second=5), steps=1)

    def look():
        try:
            step(operation_id=operation.pk, now=operation.next_at)
        finally:
            connection.close()

    thread = threading.Thread(target=look)
    with transaction.atomic():
        operation.deliveries.update(state="delivered")
        thread.start()
        thread.join(timeout=10)
        assert not thread.is_alive()
    operation.refresh_from_db()
    assert (operation.done, operation.recovered) == (10, 5)
