"""What each error of the database means: the table of SQLSTATEs."""

import psycopg
import pytest
from django.db import DatabaseError, InterfaceError, InternalError, OperationalError

from config.database.connections import NoAnswer
from config.database.sqlstates import MEANINGS, Meaning, is_lost, is_unavailable, meaning_of

LATER, LOST, FAILED = Meaning.LATER, Meaning.LOST, Meaning.FAILED
CASES = {
    "ConnectionFailure": LOST,  # 08006
    "ProtocolViolation": LOST,  # 08P01, of PgBouncer
    "AdminShutdown": LOST,
    "CrashShutdown": LOST,
    "CannotConnectNow": LOST,
    "DatabaseDropped": LOST,
    "IdleSessionTimeout": LOST,
    "IdleInTransactionSessionTimeout": LOST,
    "ReadOnlySqlTransaction": LOST,
    "TooManyConnections": LOST,
    "SerializationFailure": LATER,
    "DeadlockDetected": LATER,
    "LockNotAvailable": LATER,
    "QueryCanceled": LATER,
    "DiskFull": LATER,
    "OutOfMemory": LATER,
    "IoError": LATER,
    "ObjectNotInPrerequisiteState": LATER,
    "ProgramLimitExceeded": FAILED,
    "StatementTooComplex": FAILED,
    "InFailedSqlTransaction": FAILED,
    "UniqueViolation": FAILED,
    "CheckViolation": FAILED,
    "UndefinedTable": FAILED,
    "InsufficientPrivilege": FAILED,
    "InvalidTextRepresentation": FAILED,
    "CharacterNotInRepertoire": FAILED,
    "RaiseException": FAILED,
    "InternalError_": FAILED,
    "DataCorrupted": FAILED,
    "FeatureNotSupported": FAILED,
}


def as_django(driver: BaseException) -> DatabaseError:
    """Return Django's error of a driver's, as it is raised."""
    for kind in (OperationalError, InternalError):
        if isinstance(driver, getattr(psycopg, kind.__name__)):
            found = kind("x")
            break
    else:
        found = DatabaseError("x")
    found.__cause__ = driver
    return found


@pytest.mark.parametrize(("name", "meaning"), CASES.items())
def test_each_means_what_the_table_says_by_django_and_by_the_driver(name, meaning):
    driver = getattr(psycopg.errors, name)("x")
    assert meaning_of(driver) is meaning
    assert meaning_of(as_django(driver)) is meaning


def test_one_without_a_code_is_of_the_connection():
    for error in (OperationalError("x"), InterfaceError("x"), psycopg.OperationalError("x"), as_django(NoAnswer())):
        assert meaning_of(error) is LOST
        assert is_unavailable(error)
        assert is_lost(error)


def test_what_is_no_error_of_the_database_fails():
    for error in (ValueError("x"), DatabaseError("x"), psycopg.DataError("x"), None):
        assert meaning_of(error) is FAILED
        assert not is_unavailable(error)


def test_the_table_names_codes_and_classes_that_exist():
    codes = [getattr(one, "sqlstate", None) for one in vars(psycopg.errors).values()]
    known = [one for one in codes if isinstance(one, str)]
    assert {code for code in MEANINGS if not any(one.startswith(code) for one in known)} == set()
