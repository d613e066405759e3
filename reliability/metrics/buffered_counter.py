"""Counts what comes so often that writing each down would take longer than answering it.

The first of a while is written at once, the rest of that while (`WHILE` seconds) together at its end, by a thread that
is there for no longer. `flush` writes what waits: a scrape of the same process and its end do so. What a process that
is killed had counted within its last `WHILE` is lost.
"""

import atexit
import os
from collections.abc import Callable
from multiprocessing.util import Finalize
from threading import Lock, Timer
from weakref import WeakSet

from .multiprocess import not_counted

WHILE = 0.02


class Tally:
    """What is counted one by one and written by `write`, which gets how many came since it was last called."""

    def __init__(self, *, write: Callable[[int], None]) -> None:
        self._write = write
        self._came: list[None] = []
        self._rests = False
        self._pen = Lock()
        _all.add(self)
        _flush_at_end()

    def add(self) -> None:
        """Count one. What cannot be written is logged, and lost."""
        self._came.append(None)
        # Whoever finds it at rest has left its own before the rest ends, hence before what came is written.
        if not self._rests:
            self._rests = True
            self.flush()
            self._rest()

    def flush(self) -> None:
        """Write down what came."""
        with self._pen:
            count = len(self._came)
            if not count:
                return
            del self._came[:count]  # more may have come behind them
            try:
                self._write(count)
            except Exception as error:  # a count is no reason to fail
                not_counted(error)

    def _rest(self) -> None:
        timer = Timer(WHILE, self._wake)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no thread is to be had: the next one is written at once again
            self._rests = False

    def _wake(self) -> None:
        self._rests = False
        self.flush()


_all: WeakSet[Tally] = WeakSet()


def flush() -> None:
    """Write down what every tally of this process holds."""
    for tally in list(_all):
        tally.flush()


def _flush_at_end() -> None:
    """Have `flush` called when this process ends, also where it was made by `multiprocessing`, as granian's are."""
    global _ending  # noqa: PLW0603  # once per process is what is meant
    if _ending != os.getpid():
        _ending = os.getpid()
        atexit.register(flush)
        Finalize(None, flush, exitpriority=10)


_ending = 0
