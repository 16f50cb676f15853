"""The classification of a failed transaction's error."""

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
    "42501": ErrorClass.SCHEMA,  # insufficient privilege: a grant is missing
    "55P03": ErrorClass.AWAY,  # lock timeout
    "57014": ErrorClass.AWAY,  # statement timeout
    "57P01": ErrorClass.AWAY,  # shutdown
    "53300": ErrorClass.AWAY,  # too many connections
    "08006": ErrorClass.AWAY,  # connection failure
    "25006": ErrorClass.AWAY,  # a standby
    "25P03": ErrorClass.AWAY,  # idle in transaction for too long
    "3D000": ErrorClass.AWAY,  # no such database
}


def wrapped(error: psycopg.Error) -> exc.DBAPIError:
    # as one of psycopg's errors
    return exc.DBAPIError.instance("select", {}, error, psycopg.Error)  # type: ignore[return-value]


@pytest.mark.parametrize(("state", "error_class"), CASES.items())
def test_each_sqlstate_has_one_error_class(state: str, error_class: ErrorClass) -> None:
    """Each SQLSTATE has one error class, for any exception class of the driver."""
    assert classify(wrapped(psycopg.errors.lookup(state)("no"))) is error_class


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


@pytest.mark.parametrize(("error", "error_class"), ERRORS)
def test_errors_without_a_state(error: Exception, error_class: ErrorClass) -> None:
    """Without a SQLSTATE, the exception's class decides; an unknown exception is a defect of the
    service.
    """
    assert classify(error) is error_class


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        *(
            (wrapped(psycopg.errors.lookup(state)("no")), error_class)
            for state, error_class in CASES.items()
        ),
        *ERRORS,
    ],
)
def test_every_error_to_retry_later_is_caught(error: Exception, error_class: ErrorClass) -> None:
    """`except TROUBLE` catches every error whose class is in LATER."""
    assert error_class not in LATER or isinstance(error, TROUBLE)
