"""Tries of labels and recalls, with pauses that double."""

from sqlalchemy import Float, Table, Update, bindparam, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import INTERVAL

LONGEST_PAUSE_S = 60.0


def start_due_tries(tries: Table) -> Update:
    """Returns the statement that starts the next tries of at most `most` rows that are due.

    A row is due after a pause: `retry_s` after the first try, then twice the last pause, up to
    LONGEST_PAUSE_S.
    """
    pause_s = func.least(
        bindparam("retry_s", type_=Float) * func.power(2, func.least(tries.c.tries - 1, 20)),
        LONGEST_PAUSE_S,
    )
    pause = func.make_interval(0, 0, 0, 0, 0, 0, pause_s, type_=INTERVAL)
    due = (
        select(*tries.primary_key)
        .where(tries.c.try_time < func.clock_timestamp() - pause)
        .order_by(tries.c.try_time)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )
    return (
        update(tries)
        .values(tries=tries.c.tries + 1, try_time=func.clock_timestamp())
        .where(tuple_(*tries.primary_key).in_(due))
    )
