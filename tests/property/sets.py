"""Compares sets of commands with the same commands one by one, on two databases of a service. No
tests here.

A test of a service has a fixture with its two databases, which are equal at the start:

    @pytest.fixture
    async def both(migrated_database: Callable[[str], str]) -> AsyncIterator[BothWays]:
        async with both_ways(migrated_database, "order_svc", tables, outgoing_event) as both:
            yield both

Each example clears them, then writes its sets. Each set starts from the rows that the sets before
it left:

    @settings(max_examples=examples(20), suppress_health_check=[...function_scoped_fixture])
    @given(histories)
    async def test_a_set_equals_its_commands(both: BothWays, history: ...) -> None:
        await both.clear()
        for time, envelopes in history:
            await both.write(ORDERS, envelopes, time)

with ORDERS = RecordKind(load=lock_orders, decide=decide, save=save_orders), the functions of the
service's Writer. `write` fails where the two databases differ afterwards.

The deciders get the time of the set, in both databases. So the ids that they make are equal too,
and nothing is mapped.

The keys in a set differ: a write answers a second command of a key as a repeat. To repeat a key, or
to reuse it with another hash, put it into a later set.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import ModuleType
from typing import Any
from uuid import UUID

from google.protobuf import descriptor_pool, message_factory
from hypothesis import settings
from sqlalchemy import MetaData, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.decision import Done, Outcome
from chassis.values.envelope import Envelope
from chassis.values.outgoing_event import OutgoingEvent
from chassis.write.apply_commands import Decide
from chassis.write.database import Database, connect
from chassis.write.outbox import Outbox
from chassis.write.workspace import Workspace
from chassis.write.writer import Load, Save, Writer

# No write adds rows to them.
UNWRITTEN = {"failed_events", "stream_positions"}
# The columns of a key and of an event that neither a command nor the time of its set gives.
KEY_COLUMNS = ("key", "request_hash", "target")
EVENT_COLUMNS = ("sequence", "shard", "subject", "type", "correlation_id", "causation_id")
EXPLORED = 10  # times as many examples in the profile `explore`


def examples(most: int) -> int:
    """Returns the number of examples: `most`, and EXPLORED times as many in `make explore`."""
    return most * EXPLORED if settings.get_current_profile_name() == "explore" else most


@dataclass(frozen=True, slots=True)
class RecordKind:
    """The functions with which a service builds the Writer of one kind of record."""

    load: Load[Any]
    decide: Decide[Any, Any]
    save: Save[Any, Any]


@dataclass
class BothWays:
    """Two databases of one service: one takes each set as a set, the other its commands one by one.

    `metadata` has the service's tables. `loads` counts the calls of `load` for sets.
    """

    together: Database
    singly: Database
    metadata: MetaData
    loads: int = field(default=0, init=False)

    async def clear(self) -> None:
        """Deletes all rows of both databases."""
        tables = reversed(self.metadata.sorted_tables)
        statements = "; ".join(f"delete from {table.name}" for table in tables)
        for database in (self.together, self.singly):
            async with database.engine.begin() as connection:
                await connection.exec_driver_sql(statements)

    async def write(
        self,
        kind: RecordKind,
        envelopes: Sequence[Envelope[Any]],
        time: datetime,
        *,
        divided: bool = False,
    ) -> list[Outcome[Any]]:
        """Writes the commands as one set and one by one; returns the outcomes of the set.

        Raises AssertionError where an outcome, a row or an event differs, and where the set was not
        written in its first try: after an error the writer divides a set. `divided` says that it
        has to.
        """
        assert max(Counter(each.key for each in envelopes).values(), default=1) == 1
        writer = Writer(self.together, load=self._counted(kind.load), **_rest(kind, time))
        self.loads = 0
        outcomes = await writer.write(envelopes)
        assert divided == (self.loads > 1), f"the set took {self.loads} tries"
        writer = Writer(self.singly, load=kind.load, **_rest(kind, time))
        alone = [outcome for each in envelopes for outcome in await writer.write([each])]
        for each, one, other in zip(envelopes, outcomes, alone, strict=True):
            assert described(one) == described(other), f"{each}: {one} as a set, {other} alone"
        await self.compare()
        return outcomes

    async def compare(self) -> None:
        """Raises AssertionError where the rows of the two databases differ."""
        for table in self.metadata.sorted_tables:
            if table.name not in UNWRITTEN:
                one, other = [await _rows(each, table) for each in (self.together, self.singly)]
                assert one == other, table.name

    def _counted(self, load: Load[Any]) -> Load[Any]:
        async def counted(
            connection: AsyncConnection,
            envelopes: Sequence[Envelope[Any]],
            repeats: Collection[UUID],
        ) -> Workspace[Any]:
            self.loads += 1
            return await load(connection, envelopes, repeats)

        return counted


def _rest(kind: RecordKind, time: datetime) -> dict[str, Any]:
    """Returns the Writer's other functions; its decisions are made at `time`."""
    return {
        "decide": lambda record, envelope, _: kind.decide(record, envelope, time),
        "save": kind.save,
    }


def described(outcome: Outcome[Any]) -> tuple[Any, ...]:
    """Returns what must be equal of an outcome.

    The records differ where nothing reads the difference: the records of a set share its stock
    levels, and a record that the set itself has made has parts that no `load` reads. The rows show
    what was stored of them.
    """
    if isinstance(outcome, Done):
        events = [type(event) for event in outcome.events]
        return "done", outcome.repeat, outcome.skipped, list(outcome.history), events
    refusal = outcome.message, outcome.metadata, outcome.violations
    return type(outcome).__name__, outcome.reason, *refusal, outcome.target


async def _rows(database: Database, table: Table) -> Any:
    """Returns the rows of a table: events by their aggregate in their order, others by key."""
    async with database.engine.connect() as connection:
        if table is database.outbox.table:
            return await _events(connection, table)
        names = KEY_COLUMNS if table.name == "idempotency_keys" else table.c.keys()
        ordered = select(*(table.c[name] for name in names)).order_by(*table.primary_key)
        return [dict(row) for row in (await connection.execute(ordered)).mappings()]


async def _events(connection: AsyncConnection, outbox: Table) -> dict[UUID, list[Any]]:
    events: defaultdict[UUID, list[Any]] = defaultdict(list)
    for row in await connection.execute(select(outbox).order_by(outbox.c.id)):
        message = message_factory.GetMessageClass(
            descriptor_pool.Default().FindMessageTypeByName(row.type)
        )
        values = [getattr(row, name) for name in EVENT_COLUMNS]
        events[row.aggregate].append((*values, str(message.FromString(row.payload))))
    return dict(events)


@asynccontextmanager
async def both_ways(
    migrated_database: Callable[[str], str],
    service: str,
    tables: ModuleType,
    encode: Callable[[Any], OutgoingEvent],
) -> AsyncIterator[BothWays]:
    """Yields two databases of the service with its `tables`; `encode` makes its events."""
    engines = [connect(migrated_database(service), pool_size=2) for _ in range(2)]
    together, singly = (
        Database(engine, tables.idempotency_keys, Outbox(tables.outbox, encode=encode))
        for engine in engines
    )
    try:
        yield BothWays(together, singly, tables.metadata)
    finally:
        for engine in engines:
            await engine.dispose()
