"""The sequence, the order and the cause of each event are stored with its row, and sent at each
publication.
"""

import asyncio
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.broker.stream import Broker
from chassis.publish.republish import Events, Republish
from chassis.values.outgoing_event import OutgoingEvent
from chassis.write.database import Database
from chassis.write.idempotency_keys import IdempotencyKey
from chassis.write.outbox import CAUSATION_MAX, Outbox
from tests.sample import store
from tests.sample.events import SampleNoted
from tests.sample.model import CancelOrder, ConfirmPayment, ShipmentCreated, Transition
from tests.sample.relaying import none_waits, published, relay, running
from tests.sample.store import outbox
from tests.sample.writes import create, envelope, key, kinds, placed, write
from tests.streams import ensure_streams
from tests.support import Eventually


async def numbers(engine: AsyncEngine) -> dict[UUID, list[int]]:
    """Returns the sequences of each record's events, in the order of their rows."""
    async with engine.connect() as connection:
        found = (
            await connection.execute(
                select(outbox.c.aggregate, outbox.c.sequence).order_by(outbox.c.id)
            )
        ).all()
    by_record = sorted(found, key=attrgetter("aggregate"))  # stable: the order of the rows stays
    return {
        record: [row.sequence for row in of_one]
        for record, of_one in groupby(by_record, key=attrgetter("aggregate"))
    }


async def test_events_of_a_record_are_numbered_without_a_gap(
    database: Database, engine: AsyncEngine
) -> None:
    """Sequences start at 1, in the order of the rows: with several events in one write, refused
    commands, rolled back sets and concurrent writers.
    """
    ids = await placed(database, 5)
    # deferred: not paid yet
    await write(database, *(envelope(ShipmentCreated(), id) for id in ids))
    await asyncio.gather(
        *(
            write(database, *(envelope(ConfirmPayment(), id) for id in order))
            for order in (ids, ids[::-1], ids[1:])
        )
    )

    async def failing(connection: AsyncConnection, *rest: Any) -> None:
        await store.save_orders(connection, *rest)
        if any(step.reason == "SHIPMENT_CREATED" for step in rest[-1]):
            raise ZeroDivisionError

    assert kinds(
        await write(
            database,
            envelope(ShipmentCreated(), ids[0]),
            envelope(CancelOrder(), ids[1]),
            save=failing,
        )
    ) == ["Defect", "Done"]
    await write(database, *(envelope(ShipmentCreated(), id) for id in ids))
    assert await numbers(engine) == {id: [1, 2, 3] if id == ids[1] else [1, 2, 3, 4] for id in ids}


async def test_records_under_one_lock_are_numbered_apart(engine: AsyncEngine) -> None:
    """One lock can protect several versioned records, as an order's account protects its payments.
    Each record has its own sequence, in the order of the rows.

    A republication of the order has the events of all of them.
    """
    first, second = sorted([uuid4(), uuid4()])

    def encode(transition: Transition) -> OutgoingEvent:
        record = second if transition.new == "confirmed" else first
        return OutgoingEvent(
            aggregate=record, order_id=transition.order_id, message=SampleNoted(order_id="x")
        )

    database = Database(engine, store.idempotency_keys, Outbox(store.outbox, encode=encode))
    [order] = await placed(database)
    await write(database, envelope(ConfirmPayment(), order), envelope(ShipmentCreated(), order))
    assert await numbers(engine) == {first: [1, 2, 3], second: [1]}
    async with engine.begin() as connection:
        await connection.execute(update(outbox).values(stream_seq=1))
    republish = Republish(database)
    assert [
        await republish.count(Events(aggregate=id)) for id in (first, second, order, uuid4())
    ] == [3, 1, 4, 0]


async def test_each_publication_of_a_row_has_the_same_headers(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """An operator requests the second publication; all its attributes equal those of the first
    one.
    """
    [order] = await placed(database)
    await write(database, envelope(ConfirmPayment(), order))
    async with running(relay(database, broker)):
        await eventually(lambda: none_waits(engine))
        first = [message.headers for message in await published(broker)]
        await broker.streams.delete_stream("ORDERS")
        await ensure_streams(broker)
        await Republish(database).republish_events(
            Events(aggregate=order), IdempotencyKey(key=key())
        )
        await eventually(lambda: none_waits(engine))
    again = [message.headers for message in await published(broker)]
    assert [headers and headers["ce-sequence"] for headers in first] == [f"{1:019}", f"{2:019}"]
    assert first == again


async def test_event_cause_is_the_id_of_its_request_or_event(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The cause is a request's id, an event's id, or a carrier's id of its report, in characters
    that a header can have. It is empty where there is no id.

    A key that holds a request's id is sent as the request_id.
    """
    request, event = str(uuid4()), str(uuid4())
    causes = {
        f"x:/ordermesh.order.v1.OrderService/CreateOrder:{request}": request,
        f"order-payments:{event}": event,
        "carrier:report 7 \N{SNOWMAN}\r\nx": "report%207%20%E2%98%83%0D%0Ax",
        f"carrier:{'x' * 1000}": "x" * CAUSATION_MAX,
        "nothing": None,
    }
    for name in causes:
        await write(database, create(key=name))
    async with running(relay(database, broker)):
        await eventually(lambda: none_waits(engine))
    messages = await published(broker)
    assert {(message.headers or {}).get("ce-causationid") for message in messages} == set(
        causes.values()
    )
