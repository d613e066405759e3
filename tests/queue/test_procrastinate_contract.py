"""What we rely on of Procrastinate beyond its documented interface. An upgrade that changes it fails here, by name."""

import inspect
from importlib.metadata import version

import pytest
from procrastinate import App, PsycopgConnector, sql, worker
from procrastinate.contrib.django import procrastinate_app, utils
from procrastinate.manager import JobManager

from ..support.queue import rows

pytestmark = pytest.mark.django_db

CHECKED = "3.10.0"
COLUMNS = {
    "procrastinate_jobs": {
        "id": "bigint",
        "queue_name": "character varying",
        "task_name": "character varying",
        "priority": "integer",
        "lock": "text",
        "queueing_lock": "text",
        "args": "jsonb",
        "status": "USER-DEFINED",
        "scheduled_at": "timestamp with time zone",
        "worker_id": "bigint",
    },
    "procrastinate_workers": {"id": "bigint", "last_heartbeat": "timestamp with time zone"},
    "procrastinate_events": {"job_id": "bigint", "at": "timestamp with time zone"},
}
STATUSES = {"todo", "doing", "succeeded", "failed", "cancelled", "aborted"}
# Each with the parameters by which we call or override it.
OVERRIDDEN = {
    "fetch_job": ["self", "queues", "worker_id"],
    "listen_for_jobs": ["self", "on_notification", "queues"],
    "finish_job_by_id_async": ["self", "job_id", "status", "delete_job"],
    "register_worker": ["self"],
    "unregister_worker": ["self", "worker_id"],
    "update_heartbeat": ["self", "worker_id"],
    "prune_stalled_workers": ["self", "seconds_since_heartbeat"],
}


def says(what: str) -> str:
    return (
        f"Procrastinate {version('procrastinate')} changed {what}; {CHECKED} is what `reliability.queue` was made for."
    )


@pytest.mark.parametrize("table", COLUMNS)
def test_the_columns_that_our_statements_name(table):
    found = rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s", table)
    assert COLUMNS[table].items() <= dict(found).items(), says(f"the table {table}")


def test_the_states_of_jobs():
    found = {row[0] for row in rows("SELECT unnest(enum_range(NULL::procrastinate_job_status))::text")}
    assert found >= STATUSES, says("the states of jobs")


def test_a_job_waits_once_per_queueing_lock():
    found = rows("SELECT indexdef FROM pg_indexes WHERE indexname = 'procrastinate_jobs_queueing_lock_idx_v1'")
    assert found, says("the index of queueing locks")
    assert "UNIQUE" in found[0][0], says("the index of queueing locks")
    assert "(queueing_lock) WHERE (status = 'todo'" in found[0][0], says("the index of queueing locks")


def test_the_functions_that_migrations_call():
    found = {row[0] for row in rows("SELECT proname FROM pg_proc WHERE proname LIKE 'procrastinate%%'")}
    assert "procrastinate_defer_jobs_v1" in found, says("the function that plans jobs")
    kept = rows(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'procrastinate_job_to_defer_v1'::regclass AND attnum > 0"
        " ORDER BY attnum"
    )
    wanted = ["queue_name", "task_name", "priority", "lock", "queueing_lock", "args", "scheduled_at"]
    assert [row[0] for row in kept] == wanted, says("what a job to plan consists of")


def test_the_rows_of_workers_may_be_made_with_their_id():
    found = rows(
        "INSERT INTO procrastinate_workers (id, last_heartbeat) OVERRIDING SYSTEM VALUE VALUES (-1, now())"
        " ON CONFLICT (id) DO UPDATE SET last_heartbeat = excluded.last_heartbeat RETURNING id"
    )
    assert found == [(-1,)], says("the ids of workers")


def test_a_new_job_notifies_its_queue():
    found = rows("SELECT prosrc FROM pg_proc WHERE proname = 'procrastinate_notify_queue_job_inserted_v1'")
    assert found, says("the notification of a new job")
    for part in ("'procrastinate_queue_v1#' || NEW.queue_name", "procrastinate_any_queue_v1", "'job_inserted'"):
        assert part in found[0][0], says("the notification of a new job")


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_the_methods_that_our_manager_overrides(name):
    method = getattr(JobManager, name, None)
    assert method is not None, says(f"JobManager.{name}")
    assert list(inspect.signature(method).parameters) == OVERRIDDEN[name], says(f"JobManager.{name}")
    assert inspect.iscoroutinefunction(method), says(f"JobManager.{name}")


def test_a_worker_works_through_the_manager_of_its_app():
    source = inspect.getsource(worker.Worker)
    for name in ("fetch_job", "listen_for_jobs", "register_worker", "unregister_worker", "update_heartbeat"):
        assert f"self.app.job_manager.{name}(" in source, says(f"how a worker uses JobManager.{name}")
    assert "finish_job_by_id_async" in inspect.getsource(JobManager.finish_job), says("JobManager.finish_job")


def test_the_end_of_a_job_that_is_gone_is_an_error_of_its_own():
    """By which `Manager.finish_job_by_id_async` tells it from a database that is away."""
    found = rows("SELECT prosrc FROM pg_proc WHERE proname = 'procrastinate_finish_job_v1'")
    assert "RAISE 'Job was not found" in found[0][0], says("the end of a job")
    assert "procrastinate_finish_job_v1" in sql.queries["finish_job"], says("the end of a job")


def test_an_app_is_put_together_as_the_loops_of_a_worker_do():
    made = App(connector=PsycopgConnector(kwargs=utils.connector_params(), min_size=1, max_size=2))
    assert {"tasks", "job_manager"} <= vars(made).keys(), says("App")
    real = procrastinate_app.current_app
    assert {"dispatch", "operate", "routine", "look_up", "retry_execution", "tell"} <= set(real.tasks), says(
        "App.tasks"
    )
    assert "task_middleware" in real.worker_defaults, says("DjangoApp's middleware")
    options = inspect.signature(worker.Worker.__init__).parameters
    for name in ("queues", "concurrency", "fetch_job_polling_interval", "install_signal_handlers", "task_middleware"):
        assert name in options, says(f"Worker({name}=…)")
