"""PostgreSQL's time as a worker knows it between two questions.

A job says its moment by the database's clock. The worker's own clock may be off by seconds, or be set while the worker
runs. So each sign of life that a worker gives returns the database's time, and the monotonic clock adds what has passed
since.
"""

import time


class DatabaseTime:
    """The database's time in seconds since 1970; this machine's until it has been read once."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def read(self, *, at: float, asked: float, answered: float) -> None:
        """Note that it was `at` in the database at some time between two readings of the monotonic clock."""
        self._offset = at - (asked + answered) / 2

    def now(self) -> float:
        """Return the time now."""
        return time.time() if self._offset is None else time.monotonic() + self._offset


DATABASE_TIME = DatabaseTime()
