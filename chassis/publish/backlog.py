"""The events that wait in an outbox: how many, how long, and which the stream refuses."""

from typing import Any

from sqlalchemy import Select, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.observe import telemetry

COUNTED_MAX = 100_000  # of the events that wait
NAMED_MAX = 20  # of the aggregates whose events the stream refuses


class Backlog:
    """Measures the waiting events of one outbox for the metrics of its stream: `readings`."""

    def __init__(self, outbox: Table, stream: str) -> None:
        self._count_waiting, self._find_refused = count_waiting(outbox), find_refused(outbox)
        self._waiting = telemetry.reading(
            "outbox_waiting", "Events that wait to be published: counted up to 100 000", "stream"
        ).labels(stream)
        self._oldest = telemetry.reading(
            "outbox_oldest_waiting_seconds", "How long the oldest of them waits", "stream"
        ).labels(stream)
        self._blocked = telemetry.reading(
            "outbox_blocked_seconds",
            "How long an aggregate's events wait behind one that the stream refuses; the first 20"
            " aggregates: alert on it",
            "stream",
            "aggregate",
        ).labels(stream)
        self.readings = (self._waiting, self._oldest, self._blocked)

    async def measure(self, connection: AsyncConnection) -> None:
        """Sets the metrics."""
        waiting, age_s = (await connection.execute(self._count_waiting)).one()
        self._waiting.set(waiting)
        self._oldest.set(float(age_s))
        refused = (await connection.execute(self._find_refused)).all()
        self._blocked.drop()
        for aggregate, since_s in refused:
            self._blocked.labels(str(aggregate)).set(float(since_s))


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
