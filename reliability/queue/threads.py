"""Thread pools with one owner each, so that work that hangs delays only work of its own kind."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from django.conf import settings
from django.db import close_old_connections, connection

T = TypeVar("T")


class Threads:
    """A pool of up to `count` threads. Each has a database connection, kept between jobs only with `keeps_connection`.

    Work that waits for another service needs no connection meanwhile. Work that comes every second keeps its
    connection, as it would otherwise connect for each step.
    """

    def __init__(self, name: str, *, count: int, keeps_connection: bool = False) -> None:
        self.busy = 0
        self._keeps_connection = keeps_connection
        self._pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)
        self._counting = threading.Lock()
        _pools.append(self)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread as soon as one is free; return its result."""
        # A thread starts with an empty context: the request's id and trace have to be carried over.
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, self._do, work)

    def _do(self, work: Callable[[], T]) -> T:
        self._count(1)
        try:
            close_old_connections()  # the kept one may have broken while the thread was idle
            return work()
        finally:
            if self._keeps_connection:
                close_old_connections()
            else:
                connection.close()
            self._count(-1)

    def _count(self, change: int) -> None:
        # `+=` on an attribute is not atomic between threads.
        with self._counting:
            self.busy += change


_pools: list[Threads] = []


def busy() -> int:
    """Return how many threads of all pools are running work."""
    return sum(one.busy for one in _pools)


@cache
def n8n() -> Threads:
    """Return the pool for requests to n8n's REST API."""
    return Threads("n8n", count=settings.WORKER_N8N_THREADS)


@cache
def operations() -> Threads:
    """Return the pool for steps of bulk operations. An operation uses one thread at a time."""
    return Threads("operation", count=settings.WORKER_OPERATION_THREADS, keeps_connection=True)


@cache
def routine(name: str) -> Threads:
    """Return the thread of one routine: a clean-up may take hours, and the alerts must be checked meanwhile."""
    return Threads(f"routine-{name}", count=1)


@cache
def notice_channels() -> Threads:
    """Return the thread that reads a notice's channel. It waits for the database only."""
    return Threads("notice-channel", count=1)


@cache
def notices(channel: str) -> Threads:
    """Return the pool that sends one channel's notices: a mail server that hangs delays no webhook."""
    return Threads(f"notice-{channel}", count=2)
