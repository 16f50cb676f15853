"""Whose fault a failed transaction is."""

import psycopg
import pytest
from sqlalchemy import exc

from chassis.write.error_classification import LATER, TROUBLE, Blame, Race, blame

CASES = {
    "40001": Blame.RACE,  # serialization failure
    "40P01": Blame.RACE,  # deadlock
    "23505": Blame.TAKEN,  # unique violation
    "23514": Blame.DATA,  # check violation
    "22003": Blame.DATA,  # numeric value out of range
    "P0001": Blame.DATA,  # raised by a trigger
    "42703": Blame.SCHEMA,  # undefined column
    "0A000": Blame.SCHEMA,  # cached plan must not change result type
    "42501": Blame.SCHEMA,  # insufficient privilege: a grant is due
    "55P03": Blame.AWAY,  # lock timeout
    "57014": Blame.AWAY,  # statement timeout
    "57P01": Blame.AWAY,  # shut down
    "53300": Blame.AWAY,  # too many connections
    "08006": Blame.AWAY,  # connection failure
    "25006": Blame.AWAY,  # a standby
    "25P03": Blame.AWAY,  # idle in transaction for too long
    "3D000": Blame.AWAY,  # no such database
}


def wrapped(error: psycopg.Error) -> exc.DBAPIError:
    # of psycopg's it is one
    return exc.DBAPIError.instance("select 1", {}, error, psycopg.Error)  # type: ignore[return-value]


@pytest.mark.parametrize(("state", "fault"), CASES.items())
def test_postgresql_says_what_it_was(state: str, fault: Blame) -> None:
    """Each SQLSTATE that we have met has one meaning, whatever class the driver gives it."""
    assert blame(wrapped(psycopg.errors.lookup(state)("no"))) is fault


ERRORS: list[tuple[Exception, Blame]] = [
    (Race("changed meanwhile"), Blame.RACE),
    (wrapped(psycopg.OperationalError("the server closed the connection")), Blame.AWAY),
    (wrapped(psycopg.InterfaceError("the connection is closed")), Blame.AWAY),
    (exc.TimeoutError("QueuePool limit reached"), Blame.AWAY),
    (ConnectionRefusedError(), Blame.AWAY),
    (TimeoutError(), Blame.AWAY),
    (wrapped(psycopg.DataError("PostgreSQL text fields cannot contain NUL")), Blame.DATA),
    (wrapped(psycopg.ProgrammingError("cannot adapt type")), Blame.DATA),
    (ZeroDivisionError(), Blame.DATA),
    (KeyError("sku"), Blame.DATA),
]


@pytest.mark.parametrize(("error", "fault"), ERRORS)
def test_errors_without_a_state(error: Exception, fault: Blame) -> None:
    """Where PostgreSQL has not spoken, the class of the error decides; what is nobody else's
    fault is our own.
    """
    assert blame(error) is fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        *((wrapped(psycopg.errors.lookup(state)("no")), fault) for state, fault in CASES.items()),
        *ERRORS,
    ],
)
def test_what_is_nobody_s_fault_is_caught(error: Exception, fault: Blame) -> None:
    """Whoever catches TROUBLE, to do later what blame is in LATER, misses none of it."""
    assert fault not in LATER or isinstance(error, TROUBLE)
