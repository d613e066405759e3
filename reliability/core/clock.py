"""The cluster's clock: PostgreSQL's. Read it once per operation and pass it down as `now`."""

from datetime import datetime

from django.db import connection


def now() -> datetime:
    """Return the database's current time."""
    with connection.cursor() as cursor:
        # Not now(), which stands still at the start of a transaction: a lease taken late in one would be too short.
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment
