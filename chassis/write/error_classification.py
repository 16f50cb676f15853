"""When a transaction fails: whose fault it is decides what is done about it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from chassis.values.errors import Defect, Deferred

T = TypeVar("T")

log = structlog.get_logger()


class Race(Exception):
    """Another transaction was in the way: the same set may succeed now."""


class ErrorClass(Enum):
    """Whose fault a failed transaction is."""

    RACE = auto()  # another transaction: try again, and later if that does not help
    TAKEN = auto()  # a natural key: a race, unless it persists; then the data
    # the database cannot be reached, is too slow, or refuses everybody: later, all of them
    AWAY = auto()
    DATA = auto()  # a command, or our own code: find it, and refuse it
    # the database is not as we expect it (a migration is due): find whom it concerns, and later
    SCHEMA = auto()


DATABASE = "database"  # as a dependency that is away is named

# Where it is nobody's fault here, the same may succeed later; this is what callers are told.
LATER = {
    ErrorClass.RACE: "CONTENTION",
    ErrorClass.AWAY: "DEPENDENCY_UNAVAILABLE",
    ErrorClass.SCHEMA: "DATABASE_NOT_READY",
}

# What people are told beside it.
TOLD = {
    ErrorClass.RACE: "others write the same records just now",
    ErrorClass.AWAY: "the database cannot be reached, or does not answer",
    ErrorClass.SCHEMA: "the database is not migrated to what this version expects",
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
    READ_ONLY: ErrorClass.AWAY,  # we speak to a standby
    "25P03": ErrorClass.AWAY,  # idle_in_transaction_session_timeout: we were frozen
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
    "P0": ErrorClass.DATA,  # raise_exception: a trigger of ours refuses the row
}


def classify(error: BaseException) -> ErrorClass:
    """Whose fault the error is, judged by its SQLSTATE where PostgreSQL has spoken, else by its
    class.
    """
    if isinstance(error, Race):
        return ErrorClass.RACE
    if isinstance(error, DBAPIError) and (state := getattr(error.orig, "sqlstate", None)):
        return STATES.get(state) or STATES.get(state[:2], ErrorClass.SCHEMA)
    if isinstance(error, (OperationalError, InterfaceError, PoolExhausted, OSError)):
        return ErrorClass.AWAY
    return ErrorClass.DATA


def deferred_failure(fault: ErrorClass) -> Deferred | None:
    """What callers are told where it is nobody's fault here; None where it is somebody's."""
    if fault not in LATER:
        return None
    later = Deferred(LATER[fault], TOLD[fault])
    if fault is not ErrorClass.RACE:
        later.metadata["peer"] = DATABASE
    return later


@contextmanager
def deferring_outages() -> Iterator[None]:
    """Turns what is the database's fault into Deferred; all else goes through."""
    try:
        yield
    except TROUBLE as error:
        if later := deferred_failure(classify(error)):
            raise later from error
        raise


@contextmanager
def only_reading() -> Iterator[None]:
    """Turns a write on a connection that we ourselves have made read-only into Defect: that is a
    bug of ours, and no standby's word.
    """
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == READ_ONLY:
            raise Defect(error) from error
        raise


async def retrying(work: Callable[[], Awaitable[T]], waits: str) -> T:
    """What `work` answers; while the database is away it is called again and again. `waits`
    names what waits for it.
    """
    while True:
        try:
            return await work()
        except TROUBLE as error:
            if classify(error) not in LATER:
                raise
            log.warning("waiting for the database", waits=waits, error=repr(error))
        await asyncio.sleep(random.uniform(0.1, 0.5))
