"""`manage.py worker`: separate loops in one process, so that work of one kind never waits behind that of another.

Each loop is a worker of Procrastinate's on queues of its own, with its own limit of jobs, its own connections to the
database and its own threads (`threads`). All of them run in one event loop, in which nothing may block.
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

# Seconds that threads get to end after the jobs were given up.
LAST_WAIT = 5.0
# Seconds until a statement without a connection is given up, and for which the pool goes on trying to make one: it
# tries ever more rarely, and begins anew with the next statement.
CONNECT_WITHIN = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop: its name and its queues; how many jobs it takes on at once; how often it polls, in seconds; and how
    many connections it has for them at the most.

    The limit of jobs is far above what is at work at once: jobs that wait for their moment, or for a thread, count
    too. A notification tells a loop of each new job. The polls find the jobs that become due: those of dispatch and of
    operations have to be on time, those of n8n come after a backoff of seconds.
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
    """Have every worker of this process, Procrastinate's own command included, use our job manager."""
    # `app` itself is a proxy, which would keep the attribute to itself.
    procrastinate_app.current_app.job_manager = Manager(app.connector)
    # Around each job, upstream closes old connections in the one thread that all jobs of a process share. Ours do so
    # in their own threads.
    app.worker_defaults["task_middleware"] = []


def is_stopping() -> bool:
    """Whether the worker of this process is about to end: then a routine does well to come to an end too."""
    return PROCESS.is_stopping


def run_worker(*, only: Iterable[str] = ()) -> int:
    """Run the loops, or those named, until a signal comes; return the exit code.

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
    """Run until SIGTERM or SIGINT; end all loops as soon as one ends by itself, which none should."""
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
    """Wait for a signal. A second one ends the process at once, as if there were no handler."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    try:
        await asked.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _run_loop(loop: Loop) -> None:
    """Run a worker on the loop's queues with an app of its own. Cancelled, it ends its jobs first."""
    connector = PsycopgConnector(
        kwargs=connector_params(),
        connection_class=connections.AsyncConnection,
        configure=_configure,
        min_size=1,
        max_size=loop.connections,
        timeout=CONNECT_WITHIN,
        reconnect_timeout=CONNECT_WITHIN,
    )
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
    """Have each statement commit by itself, and wait for no lock for long: others of its loop wait behind it."""
    await connection.set_autocommit(True)
    await connections.configure(connection, lock_timeout="5s")


def _exit_if_threads_hang(code: int) -> None:
    """End the process at once where threads hang on, whose jobs were given up: Python would wait for them for good."""
    until = time.monotonic() + LAST_WAIT
    while (left := threads.busy()) and time.monotonic() < until:
        time.sleep(0.05)
    if left:
        logger.warning("threads_left", extra={"threads": left})
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
