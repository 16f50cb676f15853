"""Whose fault a failed transaction is."""

import psycopg
import pytest
from sqlalchemy import exc

from chassis.write.error_classification import LATER, TROUBLE, ErrorClass, Race, classify

CASES = {
    "40001": ErrorClass.RACE,  # serialization failure
    "40P01": ErrorClass.RACE,  # deadlock
    "23505": ErrorClass.TAKEN,  # unique violation
    "23514": ErrorClass.DATA,  # check violation
    "22003": ErrorClass.DATA,  # numeric value out of range
    "P0001": ErrorClass.DATA,  # raised by a trigger
    "42703": ErrorClass.SCHEMA,  # undefined column
    "0A000": ErrorClass.SCHEMA,  # cached plan must not change result type
    "42501": ErrorClass.SCHEMA,  # insufficient privilege: a grant is due
    "55P03": ErrorClass.AWAY,  # lock timeout
    "57014": ErrorClass.AWAY,  # statement timeout
    "57P01": ErrorClass.AWAY,  # shut down
    "53300": ErrorClass.AWAY,  # too many connections
    "08006": ErrorClass.AWAY,  # connection failure
    "25006": ErrorClass.AWAY,  # a standby
    "25P03": ErrorClass.AWAY,  # idle in transaction for too long
    "3D000": ErrorClass.AWAY,  # no such database
}


def wrapped(error: psycopg.Error) -> exc.DBAPIError:
    # of psycopg's it is one
    return exc.DBAPIError.instance("select 1", {}, error, psycopg.Error)  # type: ignore[return-value]


@pytest.mark.parametrize(("state", "fault"), CASES.items())
def test_postgresql_says_what_it_was(state: str, fault: ErrorClass) -> None:
    """Each SQLSTATE that we have met has one meaning, whatever class the driver gives it."""
    assert classify(wrapped(psycopg.errors.lookup(state)("no"))) is fault


ERRORS: list[tuple[Exception, ErrorClass]] = [
    (Race("changed meanwhile"), ErrorClass.RACE),
    (wrapped(psycopg.OperationalError("the server closed the connection")), ErrorClass.AWAY),
    (wrapped(psycopg.InterfaceError("the connection is closed")), ErrorClass.AWAY),
    (exc.TimeoutError("QueuePool limit reached"), ErrorClass.AWAY),
    (ConnectionRefusedError(), ErrorClass.AWAY),
    (TimeoutError(), ErrorClass.AWAY),
    (wrapped(psycopg.DataError("PostgreSQL text fields cannot contain NUL")), ErrorClass.DATA),
    (wrapped(psycopg.ProgrammingError("cannot adapt type")), ErrorClass.DATA),
    (ZeroDivisionError(), ErrorClass.DATA),
    (KeyError("sku"), ErrorClass.DATA),
]


@pytest.mark.parametrize(("error", "fault"), ERRORS)
def test_errors_without_a_state(error: Exception, fault: ErrorClass) -> None:
    """Where PostgreSQL has not spoken, the class of the error decides; what is nobody else's
    fault is our own.
    """
    assert classify(error) is fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        *((wrapped(psycopg.errors.lookup(state)("no")), fault) for state, fault in CASES.items()),
        *ERRORS,
    ],
)
def test_what_is_nobody_s_fault_is_caught(error: Exception, fault: ErrorClass) -> None:
    """Whoever catches TROUBLE, to do later what blame is in LATER, misses none of it."""
    assert fault not in LATER or isinstance(error, TROUBLE)
