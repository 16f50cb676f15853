"""The write: it decides and stores a set of commands in one transaction, once for each key.

A set inserts its idempotency keys, loads and locks the records, reads the clock, decides each
command and saves. `load`, `decide` and `save` may run again and must have no other effect. A write
inside a write is a defect, and so is a remote call inside a write.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.observe import telemetry
from chassis.values import crash_points
from chassis.values.decision import Done, Outcome
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Deferred
from chassis.values.request_context import KeyReused
from chassis.write.apply_commands import Decide, apply_commands
from chassis.write.database import Database
from chassis.write.error_classification import ErrorClass, classify, deferred_failure
from chassis.write.in_write import write_in_progress
from chassis.write.workspace import Workspace

R = TypeVar("R")
H = TypeVar("H")

# load(connection, envelopes, ids of the records that answer repeats) -> the locked records
Load = Callable[
    [AsyncConnection, Sequence[Envelope[Any]], Collection[UUID]], Awaitable[Workspace[R]]
]
# save(connection, the records before, the changed records, the rows of history)
Save = Callable[[AsyncConnection, Mapping[UUID, R], Mapping[UUID, R], Sequence[H]], Awaitable[None]]

TRIES = 5
CLOCK = select(func.clock_timestamp())  # decisions have no other clock; the write locks first


class Writer(Generic[R]):
    """Writes the records of one kind. A service builds one Writer for each kind.

    After each commit that has changed records it calls each of the database's `on_change` with
    their ids.
    """

    def __init__(
        self, database: Database, *, load: Load[R], decide: Decide[R, H], save: Save[R, H]
    ) -> None:
        self._database, self._load, self._decide, self._save = database, load, decide, save
        self._retries = telemetry.counter(
            "write_retries_total", "Sets that were written again after a race", "error_class"
        )

    async def write(self, envelopes: Sequence[Envelope[Any]]) -> list[Outcome[R]]:
        """Writes the commands as one set; returns the outcome of each, in the same order."""
        # the first of each key, in the order of the envelopes
        once = {each.key: each for each in reversed(envelopes)}
        outcomes: dict[str, Outcome[R]] = {}
        try:
            with write_in_progress():
                await self._write_set(
                    [once[key] for key in dict.fromkeys(each.key for each in envelopes)], outcomes
                )
        except Deferred as away:
            outcomes = dict.fromkeys(once, away) | outcomes
        return [
            outcomes[each.key]
            if each.request_hash == once[each.key].request_hash
            else KeyReused(each.key)
            for each in envelopes
        ]

    async def _write_set(
        self, envelopes: Sequence[Envelope[Any]], outcomes: dict[str, Outcome[R]]
    ) -> None:
        """Adds the outcome of each envelope.

        A race repeats the set. A lost connection raises Deferred. After any other error each
        command is written alone, so that the error is the outcome of the command that caused it.
        """
        failure, fault = Exception(), ErrorClass.RACE
        for pause in range(TRIES if envelopes else 0):
            try:
                async with self._database.engine.connect() as connection:
                    outcomes |= await self._attempt(connection, envelopes)
                    return
            except Exception as error:  # noqa: BLE001  # `classify` classifies every error
                failure, fault = error, classify(error)
            if fault is ErrorClass.AWAY and (away := deferred_failure(fault)):
                raise away from failure
            if fault not in (ErrorClass.RACE, ErrorClass.TAKEN):
                break
            self._retries.labels(fault.name.lower()).inc()
            await asyncio.sleep(random.uniform(0, 0.01 * 2**pause))
        if len(envelopes) > 1 and fault is not ErrorClass.RACE:
            for each in envelopes:
                await self._write_set([each], outcomes)
        else:
            outcomes |= {each.key: deferred_failure(fault) or Defect(failure) for each in envelopes}

    async def _attempt(
        self, connection: AsyncConnection, envelopes: Sequence[Envelope[Any]]
    ) -> dict[str, Outcome[R]]:
        keys = self._database.idempotency_keys
        stored = await keys.insert(connection, envelopes)
        fresh = [each for each in envelopes if each.key not in stored]
        repeats = {
            each.key: (each.target, stored[each.key][1])
            for each in envelopes
            if each.key in stored and stored[each.key][0] == each.request_hash
        }
        needed = [each for each in envelopes if each.key not in stored or each.key in repeats]
        workspace = await self._load(connection, needed, {target for _, target in repeats.values()})
        now = (await connection.execute(CLOCK)).scalar_one()
        applied = apply_commands(workspace, fresh, self._decide, now)
        again = {
            key: Done(record=workspace.get_repeated(known, proposed), repeat=True)
            for key, (proposed, known) in repeats.items()
        }
        if len(applied.undone) < len(fresh):
            after = workspace.after
            if after or applied.history:
                await self._save(connection, workspace.before, after, applied.history)
            if applied.events:
                await self._database.outbox.append(connection, applied.events, applied.causes)
            if applied.undone:
                await keys.delete(connection, applied.undone)
            await _finish(self._commit(connection, bool(applied.events), workspace.changed))
        return {each.key: KeyReused(each.key) for each in envelopes} | again | applied.outcomes

    async def _commit(
        self, connection: AsyncConnection, appended: bool, changed: Collection[UUID]
    ) -> None:
        await connection.commit()
        crash_points.point("database.committed")
        if appended:
            self._database.outbox.appended.set()
        for listener in self._database.on_change:
            listener(changed)


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` to its end even if the caller is cancelled; then raises the cancellation."""
    task, cancelled = asyncio.ensure_future(work), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled from task.exception()
    task.result()
