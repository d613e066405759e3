"""Prepared statements for what is executed many times a second: the server parses once and plans once in a while.

Behind a pooler in transaction mode the next transaction has another session, which does not know the statement. So
nothing is prepared where the session may not be the server's own (`sessions`).
"""

import time
from typing import Any, Self, cast

import psycopg
from django.db import connection
from django.db.backends.utils import CursorWrapper

from .base import DatabaseWrapper

# Seconds for which plans are kept. A plan that was made while a table was empty reads the whole table once it has
# grown, and the server would keep it for the life of the session.
PLAN_SECONDS = 1.0


class PreparedCursor(psycopg.Cursor[Any]):
    """A cursor that prepares what it executes."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        # Set for this statement only: with a threshold set, psycopg would count, and keep, the texts of all cursors'
        # statements.
        self.connection.prepare_threshold = 0
        try:
            return super().execute(query, params, **{**options, "prepare": True})
        finally:
            self.connection.prepare_threshold = None


def prepared_cursor() -> CursorWrapper:
    """Return a cursor that prepares what it executes, where the session is the server's own.

    Behind a pooler it is an ordinary cursor.
    """
    wrapper = cast(DatabaseWrapper, connection)
    wrapper.ensure_connection()  # only a connected session knows whether it takes limits
    if not wrapper.takes_limits:
        return wrapper.cursor()
    now = time.monotonic()
    if now - wrapper.planned_at >= PLAN_SECONDS:
        with wrapper.cursor() as cursor:
            cursor.execute("DISCARD PLANS")
        wrapper.planned_at = now
    return CursorWrapper(PreparedCursor(wrapper.connection), wrapper)
