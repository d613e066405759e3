"""The one clock of a cluster: PostgreSQL's. Read it once per operation, and pass it down as `now`."""

from datetime import datetime

from django.db import connection


def now() -> datetime:
    """Return the database's current time, which moves on within a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment
