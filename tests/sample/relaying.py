"""The relay of the sample's outbox in tests, and the messages of the stream."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from nats.js.api import RawStreamMsg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.broker.stream import BROKER_ERRORS, Broker
from chassis.publish.relay import Relay
from chassis.write.database import Database
from tests.sample import events
from tests.sample.model import ConfirmPayment, ShipmentCreated
from tests.sample.store import outbox, stream_positions
from tests.sample.writes import count, envelope, write
from tests.support import cancelled_at_end, measured


def relay(database: Database, broker: Broker) -> Relay:
    """Returns the sample's relay."""
    return Relay(database, broker, positions=stream_positions, stream="ORDERS", source="sample")


@asynccontextmanager
async def running(*relays: Relay) -> AsyncIterator[None]:
    """Runs the relays inside."""
    async with AsyncExitStack() as stack:
        for each in relays:
            await stack.enter_async_context(cancelled_at_end(each.run()))
        yield


async def waiting(engine: AsyncEngine) -> int:
    """Returns how many events wait to be published."""
    return await count(engine, outbox, outbox.c.stream_seq.is_(None))


async def none_waits(engine: AsyncEngine) -> bool:
    """Whether all events are published and marked."""
    return await waiting(engine) == 0


async def rows_read(connection: AsyncConnection) -> int:
    """Returns how many rows of the outbox this transaction has read so far, from the table or by an
    index.
    """
    counts = (
        "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_xact_user_tables where"
        " relname like 'outbox%'"
    )
    return int((await connection.execute(text(counts))).scalar_one())


async def published(broker: Broker) -> list[RawStreamMsg]:
    """Returns all messages of the stream."""
    state = (await broker.ensure_stream("ORDERS")).state
    return [
        await broker.streams.get_msg("ORDERS", seq)
        for seq in range(state.first_seq, state.last_seq + 1)
    ]


async def has_messages(broker: Broker, number: int) -> bool:
    """Returns whether the stream has this number of messages; creates a stream that is missing."""
    with suppress(*BROKER_ERRORS):
        return (await broker.ensure_stream("ORDERS")).state.messages == number
    return False


async def versions(broker: Broker) -> dict[str, list[int]]:
    """Returns the versions of each order on the stream, in its order."""
    versions_by_order: dict[str, list[int]] = {}
    for message in await published(broker):
        event: Any = events.SampleStatusChanged.FromString(message.data or b"")
        versions_by_order.setdefault(event.order_id, []).append(event.version)
    return versions_by_order


async def shipped(database: Database, ids: Sequence[UUID]) -> None:
    """Moves orders from pending to shipped, in two sets: three events each."""
    await write(database, *(envelope(ConfirmPayment(), order) for order in ids))
    await write(database, *(envelope(ShipmentCreated(), order) for order in ids))


def republished() -> float:
    """Returns how many events this process has set to be published again so far, because the stream
    had lost them.
    """
    return measured("outbox_republished_total", stream="ORDERS")
