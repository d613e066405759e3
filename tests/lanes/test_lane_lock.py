"""A lane under its lock, and what is read of it then."""

import threading
from datetime import timedelta

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction

from reliability.core import clock, db_pipeline
from reliability.core.db_pipeline import pipelined
from reliability.lanes import breakers, lane_lock, opening
from reliability.models import Breaker, Lane, Scope, Workflow

from ..support.receiver import until


@pytest.fixture
def lane(workflow):
    return opening.open_lane(workflow_id=workflow().pk, tenant="default")


@pytest.mark.django_db
def test_what_belongs_to_it_is_read_with_it(lane):
    shared = breakers.instance()
    before = clock.now()
    with transaction.atomic():
        found = lane_lock.lock_lane(lane_id=lane.pk)
    assert (found.lane, found.lane.workflow, found.lane.breaker) == (lane, lane.workflow, lane.breaker)
    assert found.lane.breaker.lane is found.lane
    assert found.instance_breaker == shared
    assert before <= found.now <= clock.now()


@pytest.mark.django_db
def test_an_instance_s_breaker_that_is_not_made_yet_is_none(lane):
    Breaker.objects.filter(scope=Scope.INSTANCE).delete()
    with transaction.atomic():
        assert lane_lock.lock_lane(lane_id=lane.pk).instance_breaker is None


@pytest.mark.django_db
def test_a_lane_that_is_gone_is_said_to_be():
    with pytest.raises(Lane.DoesNotExist), transaction.atomic():
        lane_lock.lock(lane_id=2**31 - 1)


@pytest.mark.django_db(transaction=True)
def test_who_waited_for_the_lock_reads_what_its_holder_wrote(lane):
    found, waiting = [], threading.Event()

    def wait() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL application_name = 'who waits'")
            waiting.set()
            found.append(lane_lock.lock_lane(lane_id=lane.pk))
        connection.close()

    second = threading.Thread(target=wait)
    with transaction.atomic():
        lane_lock.lock(lane_id=lane.pk)
        second.start()
        waiting.wait(5)
        until_it_waits()
        Breaker.objects.filter(lane=lane).update(state="open", reason="test")
        Workflow.objects.update(paused=True)
        written = clock.now()
    second.join(10)
    (one,) = found
    assert (one.lane.breaker.state, one.lane.workflow.paused) == ("open", True)
    assert one.now > written


WAITS = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'who waits' AND wait_event_type = 'Lock'"


def until_it_waits() -> None:
    for _ in range(500):
        with connection.cursor() as cursor:
            cursor.execute(WAITS)
            if cursor.fetchone():
                return
            cursor.execute("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()")
    raise AssertionError("Nobody waits.")


@pytest.mark.django_db
def test_an_error_within_is_django_s_and_ends_what_follows(lane):
    def run() -> None:
        with transaction.atomic(), connection.cursor() as cursor, pipelined():
            cursor.execute("SELECT * FROM nothing")
            cursor.execute("DELETE FROM reliability_lane")

    with pytest.raises(DatabaseError, match="nothing"):
        run()
    assert Lane.objects.filter(pk=lane.pk).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("lock_timeout", [lane_lock.WAIT_BRIEFLY, lane_lock.SKIP_LOCKED])
def test_who_is_not_patient_is_told_that_the_lane_is_locked(lane, lock_timeout):
    """Within its limit, which holds for all of its transaction."""
    waited = []

    def wait() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '20s'")  # in vain, if the limit does not hold
        with pytest.raises(lane_lock.LaneLocked), transaction.atomic():
            lane_lock.lock_lane(lane_id=lane.pk, lock_timeout=lock_timeout)
        waited.append(True)
        connection.close()

    with transaction.atomic():
        lane_lock.lock_lane(lane_id=lane.pk, lock_timeout=lock_timeout)
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone()[0] == f"{round(lock_timeout.timeout.total_seconds() * 1000)}ms"
        second = threading.Thread(target=wait)
        second.start()
        second.join(30)
    assert waited


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("lock_timeout", [lane_lock.WAIT_BRIEFLY, lane_lock.SKIP_LOCKED])
def test_a_session_that_began_with_a_locked_lane_can_lock_it_later(lane, lock_timeout):
    found: list[object] = []

    def attempt() -> None:
        try:
            with transaction.atomic():
                found.append(lane_lock.lock_lane(lane_id=lane.pk, lock_timeout=lock_timeout).lane)
        except lane_lock.LaneLocked as error:
            found.append(type(error))

    released = threading.Event()

    def repeat() -> None:
        attempt()
        attempt()
        locked.set()
        released.wait(30)
        attempt()
        connection.close()

    locked = threading.Event()
    other = threading.Thread(target=repeat)
    with transaction.atomic():
        lane_lock.lock(lane_id=lane.pk)
        other.start()
        locked.wait(30)
    released.set()
    other.join(30)

    assert found == [lane_lock.LaneLocked, lane_lock.LaneLocked, lane]


@pytest.mark.django_db(transaction=True)
def test_a_session_that_stops_within_a_pipeline_loses_the_lock(lane, monkeypatch):
    """Its process sent the lock and no Sync: the server waits for its next message, and calls that no idleness."""
    if not db_pipeline.can_pipeline():
        pytest.skip("Nothing is pipelined on a PostgreSQL older than 17.")
    monkeypatch.setattr(lane_lock, "TRANSACTION_LIMIT", timedelta(seconds=1))
    statement, limits = lane_lock._statement(lane_lock.WAIT_BRIEFLY)
    texts = [str(value).encode() for value in (lane.pk, *limits)]
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as stopped:
        server = stopped.pgconn
        server.exec_(b"SET idle_in_transaction_session_timeout = '500ms'; SET statement_timeout = '700ms'")
        server.exec_(b"BEGIN")
        server.enter_pipeline_mode()
        numbered = statement.replace("%s", "${}").format(*range(1, len(texts) + 1))
        server.send_query_params(numbered.encode(), texts)
        server.send_flush_request()
        server.flush()
        until(lambda: _is_locked(lane), what="the lock", within=10)
        until(lambda: not _is_locked(lane), what="the end of the lock", within=30)
        server.finish()


def _is_locked(lane: Lane) -> bool:
    with transaction.atomic():
        return not Lane.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=lane.pk).exists()
