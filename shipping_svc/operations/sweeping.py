"""Labels and recalls that are due: one worker or several try them again, in batches."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from chassis.observe import telemetry
from chassis.write.database import Database
from chassis.write.error_classification import deferring_outages

T = TypeVar("T")

# Small enough that the carrier can answer a batch before its tries are due again.
SWEEP_BATCH = 50


class Sweeper:
    """Repeats the requests that the carrier has not answered, and counts them.

    `retry_s`: see Timeouts. `waiting` and `oldest_s` are the readings of the number without an
    answer, and of the age of the oldest.
    """

    def __init__(
        self,
        database: Database,
        retry_s: float,
        waiting: telemetry.Reading,
        oldest_s: telemetry.Reading,
    ) -> None:
        self.database, self.retry_s = database, retry_s
        self._waiting, self._oldest_s = waiting, oldest_s

    async def sweep(
        self,
        start_due: Callable[[Any, float, int], Awaitable[list[T]]],
        retry: Callable[[Sequence[T]], Awaitable[object]],
        count: Callable[[Any], Awaitable[tuple[int, float]]],
    ) -> None:
        """Carries out the due tries in batches, until a batch is not full."""
        with telemetry.reading_of(self._waiting, self._oldest_s):
            started = SWEEP_BATCH
            while started == SWEEP_BATCH:
                with deferring_outages():
                    async with self.database.engine.begin() as connection:
                        due = await start_due(connection, self.retry_s, SWEEP_BATCH)
                started = len(due)
                await retry(due)
            async with self.database.read() as connection:
                waiting, oldest_s = await count(connection)
        self._waiting.set(waiting)
        self._oldest_s.set(oldest_s)
