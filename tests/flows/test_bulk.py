"""Bulk operations by real workers: kept to their rate, killed in the middle, stopped by what comes back."""

import time
from datetime import timedelta

import pytest
from django.db.models import Count

from reliability.bulk import operations
from reliability.core import clock
from reliability.core.audit import Actor
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.lanes import opening
from reliability.models import Attempt, DeadLetter, Delivery, Operation, OperationKind

from ..support.receiver import Reply, until

pytestmark = pytest.mark.django_db(transaction=True)
ACTOR = Actor("user:anna", "the vendor is back")


@pytest.fixture
def letters(workflow):
    """Make dead letters by the number, of two workflows."""

    def make(count: int, *, max_retries: int = 0) -> list[DeadLetter]:
        names = {
            "max_retries": max_retries,
            "circuit_breaker_threshold": 100_000,
            "concurrency_limit": 20,
            "timeout_ms": 1000,
        }
        made, now = [], clock.now()
        moments = {"created_at": now, "died_at": now, "expires_at": now + timedelta(days=1)}
        lanes = [opening.open_lane(workflow_id=workflow(slug, **names).pk, tenant="default") for slug in ("one", "two")]
        for n in range(count):
            plain = {"source": "api", "error_code": "http_500", "payload": f'{{"n": {n}}}'}
            made.append(DeadLetter(lane=lanes[n % 2], **plain, **moments))
        return DeadLetter.objects.bulk_create(made)

    return make


def submit(**values) -> Operation:
    kind, selection = OperationKind.REPLAY, DeadLetterFilter()
    return operations.submit(kind=kind, selection=selection, actor=ACTOR, now=clock.now(), **values)


def ended(operation: Operation, *, within: float) -> Operation:
    def over():
        operation.refresh_from_db()
        return operation.finished_at and not operation.next_at

    until(over, within=within, what="the operation's end")
    return operation


def test_2000_survive_every_process_being_killed_in_the_middle(letters, receiver, workers):
    """Three times all workers are killed at once, at moments that nobody chose: each letter is replayed once."""
    letters(2000, max_retries=5)
    receiver.always(wait=0.01)
    operation = submit(rate_per_second=200)
    for share in (300, 900, 1500):
        running = [workers.start(N8N_WEBHOOK_URL=receiver.url) for _ in range(2)]
        until(lambda share=share: len(receiver.got) >= share, within=60, what=f"{share} requests")
        for one in running:
            workers.kill(one)
    for _ in range(2):
        workers.start(N8N_WEBHOOK_URL=receiver.url)
    operation = ended(operation, within=90)
    ends = operation.ends
    assert (operation.state, operation.done, operation.skipped) == ("done", 2000, 0)
    assert (ends.recovered, ends.failed, ends.withdrawn) == (2000, 0, 0)
    assert DeadLetter.objects.filter(status="recovered").count() == 2000
    replays = Delivery.objects.filter(source="replay").values("dead_letter").annotate(times=Count("id"))
    assert [one["times"] for one in replays] == [1] * 2000
    assert set(receiver.keys) == {str(pk) for pk in DeadLetter.objects.values_list("pk", flat=True)}
    # What a killed worker had in its hands goes out once more, under the same key.
    assert sum(receiver.keys.values()) <= 2000 + Attempt.objects.filter(result="interrupted").count()


def test_the_rate_is_kept_within_a_tenth(letters, receiver, workers):
    letters(200)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    ended(submit(rate_per_second=25), within=40)
    times = [one.at for one in receiver.got]
    assert len(times) == 200
    rate = (len(times) - 1) / (times[-1] - times[0])
    assert 0.9 * 25 <= rate <= 1.1 * 25
    # No burst either: never two seconds' worth within one, even where a step was late and made up for it.
    assert all(times[begin + 50] - times[begin] >= 1 for begin in range(150))


def test_the_canarys_end_wakes_the_operation_at_once(letters, receiver, workers):
    letters(20)
    receiver.rule = lambda got: Reply(wait=0.8 if len(receiver.got) == 1 else 0)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    operation = submit(rate_per_second=100, canary=True)
    receiver.wait_for(1)
    time.sleep(0.6)
    assert len(receiver.got) == 1
    times = [one.at for one in receiver.wait_for(20, within=10)]
    assert 0.8 <= times[1] - times[0] < 2
    assert ended(operation, within=10).recovered == 20


def test_too_many_failures_stop_it_and_most_are_left_alone(letters, receiver, workers):
    letters(300)
    receiver.always(422)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    operation = ended(submit(rate_per_second=20, stop_failure_rate=0.1), within=30)
    assert operation.state == "stopped"
    until(lambda: not operation.in_flight, what="those in flight")
    assert len(receiver.got) <= 60
    assert DeadLetter.objects.filter(status="dead").count() == 300
    assert operation.failed == len(receiver.got)
    assert operation.ends.withdrawn == operation.done - operation.failed
