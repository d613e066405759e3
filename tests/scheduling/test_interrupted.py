"""A run that PostgreSQL broke up is done again, a few times; nothing of it was kept."""

import time

import pytest
from django.db import OperationalError, connection, transaction
from psycopg import errors

from reliability.core import clock, lock_waits
from reliability.core.audit import Actor
from reliability.errors import Unavailable
from reliability.models import Delivery
from scheduling import jobs
from scheduling.models import CronJob, Run

pytestmark = pytest.mark.django_db(transaction=True)
CALLER = jobs.Caller("127.0.0.1", time.perf_counter())
BREAK_UP = """
CREATE SEQUENCE broken_up;
CREATE FUNCTION break_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('broken_up') <= {times} THEN RAISE EXCEPTION 'broken up' USING ERRCODE = '{code}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER break_up BEFORE INSERT ON scheduling_run FOR EACH ROW EXECUTE FUNCTION break_up()
"""


@pytest.fixture
def broken_up(workflow):
    """Let PostgreSQL break the first runs up, as it does two that wait for each other."""
    job = CronJob.objects.create(slug="nightly", name="Nightly", schedule="0 3 * * *")
    job.workflows.add(workflow())

    def make(times, code):
        with connection.cursor() as cursor:
            cursor.execute(BREAK_UP.format(times=times, code=code))
        return job

    yield make
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER IF EXISTS break_up ON scheduling_run")
        cursor.execute("DROP FUNCTION IF EXISTS break_up; DROP SEQUENCE IF EXISTS broken_up")


def ping(job):
    return jobs.ping(slug=job.slug, key="k", caller=CALLER)


def by_hand(job):
    return jobs.run_now(job_id=job.pk, actor=Actor("test", "because"), now=clock.now())


@pytest.mark.parametrize("run", [ping, by_hand])
@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_it_is_done_again(broken_up, run, code):
    assert not run(broken_up(2, code)).repeated
    assert (Run.objects.count(), Delivery.objects.count()) == (1, 1)


@pytest.mark.parametrize("run", [ping, by_hand])
def test_it_ends_after_a_few_tries_and_soon(broken_up, run):
    job, begun = broken_up(99, "40001"), time.monotonic()
    with pytest.raises(Unavailable):
        run(job)
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_value FROM broken_up")
        assert 1 < cursor.fetchone()[0] <= lock_waits.MAX_TRIES  # fewer where a loaded machine used the time up
    assert time.monotonic() - begun < 20
    assert not Run.objects.exists()


def test_within_a_transaction_of_the_caller_s_only_the_caller_does_it_again(broken_up):
    job = broken_up(1, "40P01")
    with pytest.raises(OperationalError) as caught, transaction.atomic():
        ping(job)
    assert isinstance(caught.value.__cause__, errors.DeadlockDetected)
    assert not ping(job).repeated


def test_another_error_is_raised_at_once(broken_up):
    with pytest.raises(OperationalError) as caught:
        ping(broken_up(1, "57014"))
    assert isinstance(caught.value.__cause__, errors.QueryCanceled)
