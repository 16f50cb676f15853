"""Classifies the error of a failed transaction: the class decides what is done about it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from chassis.values.errors import Deferred

T = TypeVar("T")

log = structlog.get_logger()


class Race(Exception):
    """A conflict with another transaction: the same set may succeed now."""


class ErrorClass(Enum):
    """The cause of a failed transaction."""

    RACE = auto()  # another transaction: try again, and later if that does not help
    TAKEN = auto()  # a natural key: a race, unless it persists; then the data
    # the database cannot be reached, is too slow, or refuses all commands: all of them later
    AWAY = auto()
    DATA = auto()  # a command, or the project's code: find the command, and refuse it
    # the database's schema is not the expected one (a migration is due): find the commands, and
    # later
    SCHEMA = auto()


# Where neither a command nor the code is at fault, the same may succeed later: the failure for
# callers.
LATER = {
    ErrorClass.RACE: partial(
        Deferred, "CONTENTION", "other transactions write the same records now"
    ),
    ErrorClass.AWAY: partial(
        Deferred,
        "DEPENDENCY_UNAVAILABLE",
        "the database cannot be reached, or does not answer",
        peer="database",
    ),
    ErrorClass.SCHEMA: partial(
        Deferred,
        "DATABASE_NOT_READY",
        "the database is not migrated to what this version expects",
        peer="database",
    ),
}

# Errors that another transaction or the database may have caused: the class of any other error is
# DATA. An error of a connection is an OSError, and so is a timeout.
TROUBLE = (Race, DBAPIError, PoolExhausted, OSError)

READ_ONLY = "25006"  # read_only_sql_transaction

# SQLSTATE, or its class of two characters.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
STATES = {
    "40001": ErrorClass.RACE,  # serialization_failure
    "40P01": ErrorClass.RACE,  # deadlock_detected
    "23505": ErrorClass.TAKEN,  # unique_violation
    READ_ONLY: ErrorClass.AWAY,  # connected to a standby
    "25P03": ErrorClass.AWAY,  # idle_in_transaction_session_timeout: the process was frozen
    "25P04": ErrorClass.AWAY,  # transaction_timeout
    "08": ErrorClass.AWAY,  # connection_exception
    "28": ErrorClass.AWAY,  # invalid_authorization_specification
    "3D": ErrorClass.AWAY,  # invalid_catalog_name: no such database (yet)
    "53": ErrorClass.AWAY,  # insufficient_resources
    "55": ErrorClass.AWAY,  # object_not_in_prerequisite_state: lock_timeout is one
    "57": ErrorClass.AWAY,  # operator_intervention: shut down, cancelled, statement_timeout
    "58": ErrorClass.AWAY,  # system_error
    "22": ErrorClass.DATA,  # data_exception
    "23": ErrorClass.DATA,  # integrity_constraint_violation
    "44": ErrorClass.DATA,  # with_check_option_violation
    "P0": ErrorClass.DATA,  # raise_exception: a trigger refuses the row
}


def classify(error: BaseException) -> ErrorClass:
    """Returns the class of an error, by its SQLSTATE where PostgreSQL has given one, else by its
    Python class.
    """
    if isinstance(error, Race):
        return ErrorClass.RACE
    if isinstance(error, DBAPIError) and (state := getattr(error.orig, "sqlstate", None)):
        return STATES.get(state) or STATES.get(state[:2], ErrorClass.SCHEMA)
    if isinstance(error, (OperationalError, InterfaceError, PoolExhausted, OSError)):
        return ErrorClass.AWAY
    return ErrorClass.DATA


def deferred_failure(fault: ErrorClass) -> Deferred | None:
    """Returns the failure for callers where neither a command nor the code is at fault; otherwise
    None.
    """
    if fault not in LATER:
        return None
    return LATER[fault]()


@contextmanager
def deferring_outages() -> Iterator[None]:
    """Turns the database's errors into Deferred; all other errors go through."""
    try:
        yield
    except TROUBLE as error:
        if later := deferred_failure(classify(error)):
            raise later from error
        raise


async def retrying(work: Callable[[], Awaitable[T]], waits: str) -> T:
    """Returns the result of `work`; repeats it while the database is away. `waits` names the work
    for the log.
    """
    while True:
        try:
            return await work()
        except TROUBLE as error:
            if classify(error) not in LATER:
                raise
            log.warning("waiting for the database", waits=waits, error=repr(error))
        await asyncio.sleep(random.uniform(0.1, 0.5))
