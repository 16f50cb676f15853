"""The tries of labels and recalls: each pause is twice the one before."""

from sqlalchemy import Float, Table, Update, bindparam, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import INTERVAL

LONGEST_PAUSE_S = 60.0


def start_due_tries(tries: Table) -> Update:
    """Starts the next tries of the rows that are due, and counts them.

    A row is due after a pause that doubles with each try.
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
