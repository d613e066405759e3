"""Procrastinate's job manager as workers use it, and their own record of the database's time."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from uuid import uuid4

import pytest
from django.db import transaction
from procrastinate import App, PsycopgConnector
from procrastinate.contrib.django import app
from procrastinate.jobs import Status
from procrastinate.manager import JobManager

from reliability import queue as engine
from reliability.queue import lost_jobs, tasks
from reliability.queue.database_time import DATABASE_TIME, DatabaseTime
from reliability.queue.manager import Manager
from reliability.queue.process import PROCESS

from ..support.queue import forget_all, job, opened, rows, silent_worker
from ..support.workers import ROOT, environment

pytestmark = pytest.mark.django_db(transaction=True)
# Longer than any test waits: what is found sooner was not found by a poll.
POLL = 120.0


class Racing(PsycopgConnector):
    """Puts a job into the queue after a fetch has found nothing and before it says so."""

    is_armed = False

    async def execute_query_one_async(self, query, **arguments):
        row = await super().execute_query_one_async(query, **arguments)
        if self.is_armed and "fetch_job" in query and row["id"] is None:
            self.is_armed = False
            defer = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('race', 'race')"
            await super().execute_query_async(defer)
            await asyncio.sleep(0.5)  # its notification comes meanwhile
        return row


async def race(manager: type[JobManager], *, within: float) -> bool:
    """Return whether a worker takes a job within so many seconds that came while a fetch found nothing."""
    async with opened(manager, Racing) as made:
        done = asyncio.Event()

        @made.task(name="race", queue="race")
        async def note() -> None:
            done.set()

        options = {"fetch_job_polling_interval": POLL, "install_signal_handlers": False, "delete_jobs": "always"}
        worker = asyncio.create_task(made.run_worker_async(queues=["race"], **options))
        await asyncio.sleep(1)  # it listens, and has found nothing
        made.connector.is_armed = True
        await made.connector.execute_query_async(
            "SELECT pg_notify('procrastinate_queue_v1#race', %(text)s)",
            text=json.dumps({"type": "job_inserted", "job_id": 0}),
        )
        try:
            await asyncio.wait_for(done.wait(), within)
        except TimeoutError:
            return False
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
            await made.connector.execute_query_async("DELETE FROM procrastinate_jobs WHERE queue_name = 'race'")
    return True


def test_a_job_that_comes_while_a_fetch_finds_nothing_does_not_wait_for_a_poll():
    assert asyncio.run(race(Manager, within=POLL / 2))


def test_upstream_still_needs_that():
    assert not asyncio.run(race(JobManager, within=3)), (
        "Procrastinate no longer loses a notification that comes during a fetch: Manager.fetch_job may go, with"
        " docs/decisions/0001-job-manager.md"
    )


def test_every_worker_of_this_process_has_that_manager_whatever_its_connector():
    assert type(app.job_manager) is Manager
    with app.replace_connector(app.connector.get_worker_connector()) as swapped:
        assert type(swapped.job_manager) is Manager
        assert swapped.job_manager.connector is swapped.connector
    assert app.worker_defaults["task_middleware"] == [], "no thread is shared by all jobs"


def test_a_worker_too_plans_a_job_with_the_transaction_that_it_belongs_to():
    one, two = uuid4(), uuid4()
    with app.replace_connector(app.connector.get_worker_connector()):
        with transaction.atomic():
            engine.notify(notice_id=one)
            transaction.set_rollback(True)
        engine.notify(notice_id=two)
        engine.notify(notice_id=two)
    own = "SELECT args ->> 'notice_id' FROM procrastinate_jobs WHERE args ->> 'notice_id' = ANY(%s)"
    assert rows(own, [str(one), str(two)]) == [(str(two),)]  # other tests leave theirs


async def _finish(job_id: int) -> None:
    async with opened(Manager) as made:
        await made.job_manager.finish_job_by_id_async(job_id=job_id, status=Status.SUCCEEDED, delete_job=True)


def test_the_end_of_a_job_that_was_taken_away_is_no_error():
    gone = job("dispatch", None)
    rows("DELETE FROM procrastinate_jobs WHERE id = %s", gone)
    begun = time.monotonic()
    asyncio.run(_finish(gone))
    assert time.monotonic() - begun < 5, "it is not tried again"
    assert gone not in PROCESS.unfinished


def test_a_worker_that_was_taken_for_dead_fetches_on():
    """Its row was deleted while it was stopped; a job cannot refer to it until it has one again."""

    async def work() -> tuple[object, object]:
        async with opened(Manager) as made:
            manager = made.job_manager
            worker_id = await manager.register_worker()
            rows_of = made.connector.execute_query_async
            await rows_of("DELETE FROM procrastinate_workers WHERE id = %(id)s", id=worker_id)
            await rows_of("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('again', 'any')")
            first = await manager.fetch_job(queues=["again"], worker_id=worker_id)
            second = await manager.fetch_job(queues=["again"], worker_id=worker_id)
            await rows_of("DELETE FROM procrastinate_jobs WHERE queue_name = 'again'")
            await manager.unregister_worker(worker_id)
            return first, second

    first, second = asyncio.run(work())
    assert first is None
    assert second is not None


def test_the_loops_of_a_process_are_one_worker():
    async def work() -> list[int]:
        alive = []
        async with opened(Manager) as one, opened(Manager) as other:
            managers = [one.job_manager, other.job_manager]
            ids = await asyncio.gather(*(manager.register_worker() for manager in managers))
            assert ids[0] == ids[1]
            for manager in managers:
                alive.append(await count(one))
                await manager.unregister_worker(ids[0])
            alive.append(await count(one))
        return alive

    async def count(made: App) -> int:
        found = await made.connector.execute_query_one_async("SELECT count(*) AS n FROM procrastinate_workers")
        return found["n"]

    forget_all()
    assert asyncio.run(work()) == [1, 1, 0]


def test_a_process_that_has_no_row_is_silent():
    forget_all()

    async def beat() -> None:
        async with opened(Manager) as made:
            await made.job_manager.update_heartbeat(1)

    asyncio.run(beat())
    assert rows("SELECT count(*) FROM procrastinate_workers") == [(0,)]


# --- Lost jobs -----------------------------------------------------------------------------------------------


async def _take_away(**options) -> list[int]:
    async with opened(Manager) as made:
        return await lost_jobs.recover(made.connector, **options)


def todo() -> list[tuple]:
    return rows("SELECT task_name, queueing_lock FROM procrastinate_jobs WHERE status = 'todo' ORDER BY id")


def test_jobs_of_workers_that_are_gone_are_taken_away_and_their_lanes_woken(workflow, accept):
    workflow(paused=True)
    lane_id = accept().lane_id
    forget_all()
    dead, alive = silent_worker(61), silent_worker(45)
    args = json.dumps({"lane_id": lane_id})
    lost = [job("dispatch", worker, args=args) for worker in (dead, None)]
    kept = job("dispatch", alive, args=args)
    assert sorted(asyncio.run(_take_away())) == lost
    assert rows("SELECT id FROM procrastinate_jobs WHERE status = 'doing'") == [(kept,)]
    assert todo() == [("dispatch", f"lane:{lane_id}"), ("dispatch", f"lane-later:{lane_id}")]
    assert rows("SELECT id FROM procrastinate_workers") == [(alive,)]


def test_a_job_whose_end_a_living_worker_could_not_write_down_is_taken_away(workflow, accept):
    workflow(paused=True)
    lane_id = accept().lane_id
    forget_all()
    alive = silent_worker(0)
    one, two = (job("dispatch", alive, args=json.dumps({"lane_id": lane_id})) for _ in range(2))
    assert asyncio.run(_take_away(unfinished=[one])) == [one]
    assert rows("SELECT id FROM procrastinate_jobs WHERE status = 'doing'") == [(two,)]


def test_what_asks_n8n_or_tells_people_is_planned_again_whatever_is_planned_later():
    forget_all()
    lost = []
    for task, queue, argument in (
        ("look_up", "n8n", "report_id"),
        ("retry_execution", "n8n", "retry_id"),
        ("tell", "operation", "notice_id"),
    ):
        key = f"{task}:1"
        lost.append(job(task, None, queue=queue, args=json.dumps({argument: str(uuid4()), "at": 1.5})))
        rows("UPDATE procrastinate_jobs SET queueing_lock = %s WHERE id = %s", key, lost[-1])
        later = job(task, None, queue=queue, status="todo")
        rows("UPDATE procrastinate_jobs SET queueing_lock = %s, scheduled_at = 'infinity' WHERE id = %s", key, later)
    assert sorted(asyncio.run(_take_away())) == lost
    found = "SELECT queue_name, task_name, args ? 'at' FROM procrastinate_jobs WHERE queueing_lock LIKE 'lost:%%'"
    assert sorted(rows(found)) == [
        ("n8n", "look_up", False),
        ("n8n", "retry_execution", False),
        ("operation", "tell", False),
    ]


def test_a_lost_routine_waits_for_the_next_ping():
    forget_all()
    lost = job("routine", None, queue="operation", args=json.dumps({"name": "cleanup", "run_id": str(uuid4())}))
    assert asyncio.run(_take_away()) == [lost]
    assert todo() == []


def test_two_workers_that_take_away_at_once_do_no_harm(workflow, accept):
    workflow(paused=True)
    lane_id = accept().lane_id
    forget_all()
    lost = {job("dispatch", None, args=json.dumps({"lane_id": lane_id})) for _ in range(50)}

    async def both() -> list[list[int]]:
        return await asyncio.gather(_take_away(), _take_away())

    one, other = asyncio.run(both())
    assert set(one) | set(other) == lost
    assert not set(one) & set(other)
    # Two at once may each write a wake-up of their own: one a key and session, not one a job.
    locks = [lock for _, lock in todo()]
    assert {lock.split(":")[1] for lock in locks} == {str(lane_id)}
    assert len(set(locks)) == len(locks) <= 4


def test_a_job_stays_while_its_lane_is_locked(workflow, accept):
    """To wait for the lock would delay the other lanes; to delete the job unwoken would lose it."""
    workflow(paused=True)
    lane_id = accept().lane_id
    forget_all()
    lost = job("dispatch", None, args=json.dumps({"lane_id": lane_id}))
    with transaction.atomic():
        assert engine.try_barrier(lane_id=lane_id)  # keeps the lane's lock until the transaction ends
        assert asyncio.run(_take_away()) == []
    assert asyncio.run(_take_away()) == [lost]


def test_a_job_of_a_lane_that_is_no_more_is_taken_away():
    forget_all()
    lost = job("dispatch", None, args=json.dumps({"lane_id": 2**30}))
    assert asyncio.run(_take_away()) == [lost]
    assert todo() == []


def test_a_job_that_the_end_of_its_worker_cuts_off_is_lost_and_not_given_up():
    forget_all()

    async def cut_off() -> None:
        async with opened(Manager) as made:
            begun = asyncio.Event()

            @made.task(name="look_up", queue="cut")
            async def hang(report_id: str) -> None:
                begun.set()
                await asyncio.sleep(POLL)

            options = {"install_signal_handlers": False, "shutdown_graceful_timeout": 0.1}
            worker = asyncio.create_task(made.run_worker_async(queues=["cut"], **options))
            await hang.configure(queueing_lock="look-up:1").defer_async(report_id="1")
            await asyncio.wait_for(begun.wait(), 30)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(cut_off())
    assert rows("SELECT status, worker_id FROM procrastinate_jobs") == [("doing", None)]
    assert len(asyncio.run(_take_away())) == 1
    assert todo() == [("look_up", "lost:look-up:1")]


# --- Routines, and the end -----------------------------------------------------------------------------------


def test_a_routine_that_hangs_takes_two_places_at_the_most_and_no_thread_of_another(monkeypatch):
    over, done = threading.Event(), []
    monkeypatch.setattr(tasks, "_routines", {"slow": lambda run_id: over.wait(60), "quick": done.append})

    async def ping() -> int:
        run_id = str(uuid4())
        slow = [asyncio.create_task(tasks.routine("slow", run_id)) for _ in range(5)]
        await asyncio.wait_for(tasks.routine("quick", run_id), 30)
        waiting = sum(not one.done() for one in slow)
        over.set()
        await asyncio.gather(*slow)
        await tasks.routine("slow", run_id)
        return waiting

    assert asyncio.run(ping()) == 2
    assert len(done) == 1


def test_a_process_whose_threads_hang_ends_all_the_same():
    script = """
import asyncio, django, time
django.setup()
from reliability.queue import threads, worker

async def begin():
    asyncio.ensure_future(threads.n8n().run(lambda: time.sleep(600)))
    while not threads.busy():
        await asyncio.sleep(0.01)

worker.LAST_WAIT = 0.1
loop = asyncio.new_event_loop()
loop.run_until_complete(begin())
worker._exit_if_threads_hang(3)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment(), timeout=60, check=False)
    assert done.returncode == 3


# --- The database's time -------------------------------------------------------------------------------------


def test_the_databases_time_goes_on_with_the_monotonic_clock(monkeypatch):
    clock = {"monotonic": 100.0, "wall": 5000.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["monotonic"])
    monkeypatch.setattr(time, "time", lambda: clock["wall"])
    made = DatabaseTime()
    assert made.now() == 5000.0
    made.read(at=9000.0, asked=99.0, answered=101.0)
    clock |= {"monotonic": 103.0, "wall": 0.0}
    assert made.now() == 9003.0


def test_a_worker_learns_the_databases_time_as_it_begins(monkeypatch):
    monkeypatch.setattr(DATABASE_TIME, "_offset", None)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)

    async def begin() -> float:
        async with opened(Manager) as made:
            worker_id = await made.job_manager.register_worker()
            found = DATABASE_TIME.now()
            await made.job_manager.unregister_worker(worker_id)
            return found

    assert abs(asyncio.run(begin()) - real()) < 5


@pytest.mark.parametrize("ahead", [-3600.0, -1.5, 1.5, 3600.0])
def test_a_job_waits_for_its_moment_by_the_databases_clock(monkeypatch, ahead):
    monkeypatch.setattr(DATABASE_TIME, "_offset", None)
    now = time.monotonic()
    DATABASE_TIME.read(at=time.time(), asked=now, answered=now)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    begun = time.monotonic()
    asyncio.run(tasks._wait_until(real() + 0.5))
    assert 0.45 <= time.monotonic() - begun < 1.9
