"""Queries of the events that wait in an outbox, for the relay's metrics."""

from typing import Any

from sqlalchemy import Select, Table, func, select

COUNTED_MAX = 100_000  # of the events that wait
NAMED_MAX = 20  # of the aggregates whose events the stream refuses


def count_waiting(outbox: Table) -> Select[int, Any]:
    """Returns the query of the number of waiting rows and the age of the oldest in seconds.

    It reads the rows with the lowest ids, which are the oldest but for a moment. It does not read
    all rows, because the connection that publishes them runs it.
    """
    t = outbox.c
    waiting = select(t.create_time).where(t.stream_seq.is_(None))
    first = waiting.order_by(t.id).limit(COUNTED_MAX).subquery()
    age_s = func.extract("epoch", func.clock_timestamp() - func.min(first.c.create_time))
    return select(func.count(), func.coalesce(age_s, 0)).select_from(first)


def find_refused(outbox: Table) -> Select[Any, Any]:
    """Returns the query of the aggregates of refused rows, with the rows' ages in seconds."""
    t = outbox.c
    age_s = func.extract("epoch", func.clock_timestamp() - t.create_time)
    refused = select(t.aggregate, age_s).where(t.refusal.is_not(None))
    return refused.order_by(t.id).limit(NAMED_MAX)
