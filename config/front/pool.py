"""A bounded number of threads for synchronous work, with a bounded queue per kind."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from enum import IntEnum

from .limits import STALLED_SECONDS, Limits

# Seconds between two checks of the waiting jobs.
SWEEP_SECONDS = 0.25

logger = logging.getLogger(__name__)


class Kind(IntEnum):
    """The kind of a request. Only intake may take the last thread, so that it continues while the console is slow."""

    INTAKE = 0
    OTHER = 1


class Full(Exception):
    """The queue is full."""


class Job:
    """Work for a thread: `run`. `on_wait` is called repeatedly while it waits, `expire` if it waits too long.

    It waits for `max_wait` seconds at most, whatever the limits are.
    """

    __slots__ = ("arrived", "expire", "kind", "max_wait", "on_wait", "run")

    def __init__(
        self,
        kind: Kind,
        *,
        max_wait: float,
        run: Callable[[], None],
        on_wait: Callable[[], None],
        expire: Callable[[], None],
    ) -> None:
        self.kind, self.max_wait, self.run, self.on_wait, self.expire = kind, max_wait, run, on_wait, expire
        self.arrived = time.monotonic()


class Pool:
    """Threads are started when needed and stay, since each has a database connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._others = max(1, limits.threads - 1)
        # Guards all fields below; the only lock of this module.
        self._changed = threading.Condition(threading.Lock())
        self._queues: tuple[deque[Job], deque[Job]] = (deque(), deque())
        self._threads = self._idle = self._running_others = 0
        # When a thread last started or ended a job (monotonic).
        self._moved = time.monotonic()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises `Full`."""
        with self._changed:
            waiting = len(self._queues[0]) + len(self._queues[1])
            # Per kind: requests that wait for the console must not keep intake out.
            if len(self._queues[job.kind]) >= self._limits.queue_length:
                raise Full
            self._queues[job.kind].append(job)
            if self._idle:
                self._changed.notify()
            # A woken thread counts as idle until it runs, and an idle one may not be allowed to take this kind. So the
            # idle ones are compared with all waiting jobs.
            if self._idle <= waiting and self._threads < self._limits.threads:
                self._start(job)

    def _start(self, job: Job) -> None:
        try:
            threading.Thread(target=self._work, name=f"web-{self._threads + 1}", daemon=True).start()
        except RuntimeError:  # the system has no more threads
            if not self._threads:
                self._queues[job.kind].remove(job)
                raise Full from None
        else:
            self._threads += 1

    def withdraw(self, job: Job) -> bool:
        """Remove a job from the queue; return whether it was still there."""
        with self._changed:
            try:
                self._queues[job.kind].remove(job)
            except ValueError:
                return False
            return True

    def waiting(self) -> list[Job]:
        """Return the jobs that wait for a thread."""
        with self._changed:
            return [*self._queues[0], *self._queues[1]]

    def expire(self) -> list[Job]:
        """Remove and return the jobs that have waited too long."""
        with self._changed:
            return list(self._expired(time.monotonic()))

    def _expired(self, now: float) -> Iterator[Job]:
        for kind, queue in zip(Kind, self._queues, strict=True):
            limit = self._limits.queue_seconds
            if kind is Kind.INTAKE and now - self._moved > STALLED_SECONDS:
                limit = min(limit, STALLED_SECONDS)
            for job in [one for one in queue if now - one.arrived > min(limit, one.max_wait)]:
                queue.remove(job)
                yield job

    def _work(self) -> None:
        while True:
            with self._changed:
                while (job := self._next()) is None:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                self._running_others += job.kind
                self._moved = time.monotonic()
            try:
                job.run()
            except BaseException:  # a thread that ends is never replaced
                logger.exception("job_failed")
            with self._changed:
                self._running_others -= job.kind
                self._moved = time.monotonic()
            del job  # its memory must not stay until the next job comes

    def _next(self) -> Job | None:
        """Return the job that came first; other kinds than intake only below their limit of threads."""
        intake, others = self._queues
        others_may = bool(others) and self._running_others < self._others
        if others_may and (not intake or others[0].arrived < intake[0].arrived):
            return others.popleft()
        return intake.popleft() if intake else None


class Sweeper:
    """Checks a pool's queue from the event loop, as long as jobs wait."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._runs = False

    def begin(self) -> None:
        """Start checking, unless it is running already."""
        if not self._runs:
            self._runs = True
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        for job in self._pool.expire():
            job.expire()
        left = self._pool.waiting()
        for job in left:
            job.on_wait()
        self._runs = False
        if left:
            self.begin()
