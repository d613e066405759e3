"""PostgreSQL's time in a worker process, estimated between two heartbeats.

A job names its moment by the database's clock. The worker's own clock may be wrong by seconds, or be changed while the
worker runs. So each heartbeat returns the database's time, and the monotonic clock adds what has passed since then.
"""

import time


class DatabaseTime:
    """The database's time in seconds since 1970; this machine's time until the first heartbeat."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def read(self, *, at: float, asked: float, answered: float) -> None:
        """Record that the database's time was `at` between two readings of the monotonic clock."""
        # The answer may have been made at any time in between: the middle halves the largest error.
        self._offset = at - (asked + answered) / 2

    def now(self) -> float:
        """Return the time now."""
        return time.time() if self._offset is None else time.monotonic() + self._offset


DATABASE_TIME = DatabaseTime()
