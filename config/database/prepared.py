"""Statements that are executed many times a second: the server parses and plans them once in a while, not each time.

Behind a pooler in transaction mode the next transaction has another session, which knows nothing of what was prepared.
So nothing is prepared where the session may not be the server's own, as nothing is set there (`sessions`).
"""

import time
from typing import Any, Self, cast

import psycopg
from django.db import connection
from django.db.backends.utils import CursorWrapper

from .base import DatabaseWrapper

# Seconds for which plans are kept. The best plan depends on the size of a table: a plan made for an empty table would
# scan all of it when it has grown.
PLANNED = 1.0


class PreparedCursor(psycopg.Cursor[Any]):
    """A cursor that prepares what it executes."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        # Set for this statement alone: with a threshold, psycopg would keep the texts of other cursors' statements.
        self.connection.prepare_threshold = 0
        try:
            return super().execute(query, params, **{**options, "prepare": True})
        finally:
            self.connection.prepare_threshold = None


def prepared_cursor() -> CursorWrapper:
    """Return a cursor of this thread's connection that prepares what it executes, where that can be done."""
    wrapper = cast(DatabaseWrapper, connection)
    now = time.monotonic()
    if wrapper.connection is None or now - wrapper.planned_at >= PLANNED:
        with wrapper.cursor() as cursor:
            cursor.execute("DISCARD PLANS")
        wrapper.planned_at = now
    if not wrapper.takes_limits:
        return wrapper.cursor()
    return CursorWrapper(PreparedCursor(wrapper.connection), wrapper)
