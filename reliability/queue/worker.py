"""`manage.py worker`: separate loops in one process, so that work of one kind never waits behind work of another.

Each loop is a worker of Procrastinate with its own queues, limit of jobs, database connections and threads (`threads`).
All loops run in one event loop, in which nothing may block.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg
from procrastinate import App, PsycopgConnector
from procrastinate.contrib.django import app, procrastinate_app
from procrastinate.contrib.django.utils import connector_params

from config.database import connections, roles
from reliability import checks

from . import threads
from .manager import Manager
from .process import PROCESS
from .tasks import DISPATCH_QUEUE, N8N_QUEUE, OPERATION_QUEUE

# Seconds that threads get to end after their jobs were aborted.
LAST_WAIT = 5.0
# Seconds until a statement fails for lack of a connection, and for which the pool tries to make one. The pool's tries
# grow rare quickly; with the next statement it starts again, so a short limit reconnects sooner.
CONNECT_WITHIN = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop: its name and queues, its limit of jobs, its poll interval in seconds, its limit of database connections.

    The limit of jobs is far above what runs at once: jobs that wait for their moment, or for a thread, count too. New
    jobs come by notification. The polls find jobs that become due: those of dispatch and of operations have to be on
    time, those of n8n follow a backoff of seconds anyway.
    """

    name: str
    queues: tuple[str, ...]
    jobs: int
    poll: float
    connections: int


LOOPS = (
    Loop("dispatch", (DISPATCH_QUEUE,), jobs=1000, poll=2.0, connections=4),
    Loop("operations", (OPERATION_QUEUE,), jobs=200, poll=3.0, connections=2),
    Loop("n8n", (N8N_QUEUE,), jobs=200, poll=8.0, connections=2),
)


def install() -> None:
    """Make every worker of this process, Procrastinate's own command included, use our job manager."""
    # Workaround: `app` is a proxy, and setting the attribute on it would not reach the app behind it.
    procrastinate_app.current_app.job_manager = Manager(app.connector)
    # Upstream closes old connections around each job, in the one thread that all sync jobs share. Our jobs run in pools
    # of their own (`threads`), which do it themselves.
    app.worker_defaults["task_middleware"] = []


def is_stopping() -> bool:
    """Whether this worker process is about to end, so that a long routine should stop too."""
    return PROCESS.is_stopping


def run_worker(*, only: Iterable[str] = ()) -> int:
    """Run the loops, or those named in `only`, until SIGTERM or SIGINT; return the exit code.

    Raises `CommandError` for a database that cannot be used.
    """
    roles.set_process_role(roles.WORKER)
    checks.must_be_usable()
    names = set(only)
    loops = [one for one in LOOPS if not names or one.name in names]
    code = asyncio.run(_run(loops))
    _exit_if_threads_hang(code)
    return code


async def _run(loops: Sequence[Loop]) -> int:
    """Run until SIGTERM or SIGINT. If a loop ends by itself, which none should, end all of them and return 1."""
    running = [asyncio.create_task(_run_loop(one), name=one.name) for one in loops]
    asked = asyncio.create_task(_stop_signal())
    done, _ = await asyncio.wait([asked, *running], return_when=asyncio.FIRST_COMPLETED)
    PROCESS.stop()
    for task in (asked, *running):
        task.cancel()
    results = await asyncio.gather(*running, return_exceptions=True)
    for task, result in zip(running, results, strict=True):
        if task in done or (isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError)):
            error = result if isinstance(result, BaseException) else None
            logger.error("loop_ended", extra={"loop": task.get_name()}, exc_info=error)
    return 0 if asked in done else 1


async def _stop_signal() -> None:
    """Wait for SIGTERM or SIGINT. The handlers are removed then, so that a second signal ends the process at once."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    try:
        await asked.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _run_loop(loop: Loop) -> None:
    """Run a worker for the loop's queues. When cancelled, it finishes its jobs first."""
    connector = PsycopgConnector(
        kwargs=connector_params(),
        connection_class=connections.AsyncConnection,
        configure=_configure,
        min_size=1,
        max_size=loop.connections,
        timeout=CONNECT_WITHIN,
        reconnect_timeout=CONNECT_WITHIN,
    )
    # An app per loop: Procrastinate's app has one connector, and a loop must not wait for another loop's connections.
    own = App(connector=connector, worker_defaults=app.worker_defaults)
    own.tasks, own.job_manager = app.tasks, Manager(connector)
    async with own.open_async():
        await own.run_worker_async(
            queues=list(loop.queues),
            name=loop.name,
            concurrency=loop.jobs,
            fetch_job_polling_interval=loop.poll,
            install_signal_handlers=False,
        )


async def _configure(connection: "psycopg.AsyncConnection[tuple[object, ...]]") -> None:
    """Set autocommit and a short `lock_timeout`: other jobs of the loop wait behind a statement that waits."""
    await connection.set_autocommit(True)
    await connections.configure(connection, lock_timeout="5s")


def _exit_if_threads_hang(code: int) -> None:
    """Exit the process without waiting for threads that hang."""
    # Python joins all threads of a pool at exit, without a limit. Their jobs were aborted, and count as lost.
    until = time.monotonic() + LAST_WAIT
    while (left := threads.busy()) and time.monotonic() < until:
        time.sleep(0.05)
    if left:
        logger.warning("threads_left", extra={"threads": left})
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
