"""Tries parked events again: deferred ones that are stored in failed_events.

An event is tried when a record that it waits for has changed in this process. Otherwise it is tried
at its next try time, which moves further away with each try. Batches are bounded, and replicas
share the rows. A try during which the process ends only delays its events.
chassis.consume.failed_events has the SQL that takes a row and stores the result of its try.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final, NoReturn
from uuid import UUID

from chassis.consume.dispatch import Dispatcher, failed_with
from chassis.consume.failed_event_records import ConsumerEvent
from chassis.consume.failed_events import FailedEvents
from chassis.consume.turns import Turns
from chassis.values.decision import Done
from chassis.values.errors import Failure
from chassis.write.error_classification import retrying
from chassis.write.tables import FailedState

BATCH: Final = 50
POLL_S: Final = 0.5
# The share of the time that tries of due events take at most: a quarter. The rest is for events
# that come from the stream.
REST: Final = 3
# Changes within so short a time are looked up together.
TOGETHER_S: Final = 0.02
# The number of changed records that are kept until the next turn. Beyond it, an event that waits
# for another record is tried at its next try time.
CHANGED_MAX: Final = 10_000


class ParkedEvents:
    """Tries the parked events of one service again."""

    def __init__(self, failed: FailedEvents, dispatcher: Dispatcher, turns: Turns) -> None:
        self._failed, self._dispatcher, self._turns = failed, dispatcher, turns
        self._changed: set[UUID] = set()
        self._any, self._wake = True, asyncio.Event()
        self._rest_until = 0.0

    def changed(self, records: Collection[UUID]) -> None:
        """Marks these records of the service as changed: events that wait for them are tried at
        once.
        """
        if len(self._changed) < CHANGED_MAX:
            self._changed.update(records)
        if self._any:
            self._wake.set()

    def parked(self) -> None:
        """Notes that an event has been parked in this process."""
        self._any = True

    async def run(self) -> NoReturn:
        """Tries parked events until it is cancelled. It survives an absence of the database."""
        while True:
            wait_s = await retrying(self._turn, "parked events")
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
                    await asyncio.sleep(TOGETHER_S)

    async def _turn(self) -> float:
        """Tries events that wait for changed records, then a batch of due ones. Returns the pause
        before the next turn, in seconds.
        """
        self._wake.clear()
        records, self._changed = self._changed, set()
        self._any, now = await self._failed.parked()
        if not self._any:
            return POLL_S
        taken = BATCH if records else 0
        while taken == BATCH:
            taken = await self._try(await self._failed.fetch_waiting(records, now, BATCH))
        began = time.monotonic()
        if began < self._rest_until:
            return self._rest_until - began
        # Half of a batch each way: rows whose tries fail hold up neither new rows nor old ones.
        newest = await self._failed.fetch_due(BATCH // 2, fewest_tries=True)
        oldest = await self._failed.fetch_due(BATCH // 2, fewest_tries=False)
        tried = await self._try([*newest, *oldest])
        rest_s = REST * (time.monotonic() - began)
        self._rest_until = time.monotonic() + rest_s
        return rest_s if tried == BATCH else POLL_S

    async def _try(self, events: Sequence[ConsumerEvent]) -> int:
        """Hands fetched events to their handlers, and stores the results. Returns the number of
        events.
        """
        outcomes = await self._turns.take(self._dispatcher.dispatch_stored(events))
        if done := [name for name, outcome in outcomes.items() if isinstance(outcome, Done)]:
            await self._failed.resolve(done)
        tried = []
        for event in events:
            outcome, state = outcomes[event.name], event.state
            if isinstance(outcome, Failure):
                after = failed_with(event, outcome)
                if after.state is FailedState.FAILED:
                    state = FailedState.FAILED
                tried.append(after)
            self._dispatcher.report(event, outcome, state)
        if tried:
            await self._failed.record_tries(tried)
        return len(events)
