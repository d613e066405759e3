"""What an error of the database means for whoever asked: try again later, or it fails the next time too.

By SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html): a whole code goes before its class, the
first two characters. A code that is in neither is judged by psycopg's class of error.
"""

from enum import Enum

from django.db import Error, InterfaceError, OperationalError
from psycopg import Error as DriverError
from psycopg import InterfaceError as DriverInterfaceError
from psycopg import OperationalError as DriverOperationalError


class Meaning(Enum):
    """What a caller can do about an error."""

    LATER = "try again later"  # 503 with Retry-After
    LOST = "try again later, on another connection"  # the same; the session cannot be used any more
    FAILED = "do not try again"  # 500


MEANINGS = {
    "08": Meaning.LOST,  # connection exception; PgBouncer's own errors are 08P01
    "22": Meaning.FAILED,  # data exception
    "23": Meaning.FAILED,  # integrity constraint violation
    "25006": Meaning.LOST,  # read_only_sql_transaction: a standby, after a failover
    "25P02": Meaning.FAILED,  # in_failed_sql_transaction: an error before it was swallowed
    "25P03": Meaning.LOST,  # idle_in_transaction_session_timeout
    "25P04": Meaning.LOST,  # transaction_timeout
    "40": Meaning.LATER,  # transaction rollback: serialization_failure, deadlock_detected
    "42": Meaning.FAILED,  # syntax error or access rule violation
    "53": Meaning.LATER,  # insufficient resources: disk_full, out_of_memory
    "53300": Meaning.LOST,  # too_many_connections
    "54": Meaning.FAILED,  # program limit exceeded: the request is too large, and will be next time
    "55": Meaning.LATER,  # object not in prerequisite state: lock_not_available
    "57014": Meaning.LATER,  # query_canceled: statement_timeout, or a person
    "57P": Meaning.LOST,  # admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped, idle_session_timeout
    "58": Meaning.LATER,  # system error: io_error
    "72000": Meaning.LATER,  # snapshot_too_old
    "XX": Meaning.FAILED,  # internal error
}
_LENGTHS = (5, 3, 2)


def code_of(error: BaseException | None) -> str:
    """Return the SQLSTATE of Django's or psycopg's error; empty without one."""
    for one in (error, getattr(error, "__cause__", None)):
        if code := getattr(one, "sqlstate", None):
            return str(code)
    return ""


def meaning_of(error: BaseException | None) -> Meaning:
    """Return the meaning of an error. An error without a code is one of the connection: no answer, or it broke off."""
    if not isinstance(error, Error | DriverError):
        return Meaning.FAILED
    code = code_of(error)
    for length in _LENGTHS:
        if found := MEANINGS.get(code[:length]):
            return found
    if not isinstance(error, OperationalError | InterfaceError | DriverOperationalError | DriverInterfaceError):
        return Meaning.FAILED
    return Meaning.LATER if code else Meaning.LOST


def is_away(error: BaseException | None) -> bool:
    """Whether the database is unavailable, or cannot do this now, so that the request can be repeated later."""
    return meaning_of(error) is not Meaning.FAILED


def is_lost(error: BaseException | None) -> bool:
    """Whether the session cannot be used any more, so that another connection may succeed at once."""
    return meaning_of(error) is Meaning.LOST
