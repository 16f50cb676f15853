"""Events of other services over a real broker: late, repeated, and with unknown values."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentStatusChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed
from prometheus_client import REGISTRY
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import Broker
from chassis.consume.inbox import Inbox
from order_svc import consumers, tables
from order_svc.app import Operations
from order_svc.lifecycle import PaymentStatus, Status
from order_svc.model.records import Order
from tests.integration.order.events import (
    committed,
    paid,
    refunded,
    shipped_and_delivered,
    with_units,
    working,
)
from tests.integration.order.requests import Orders
from tests.integration.order.test_events import PATH, place, snapshot
from tests.sample.inbox import all_acknowledged, publish
from tests.support import cancelled_at_end, eventually, measured


@asynccontextmanager
async def running_inbox(
    broker: Broker, engine: AsyncEngine, operations: Operations
) -> AsyncIterator[Inbox]:
    """Runs the order service's own inbox inside the block."""
    inbox = Inbox(
        broker,
        engine,
        tables.failed_events,
        service="order",
        handlers=consumers.handlers(operations.payments, operations.writer),
    )
    operations.reading.database.on_change.append(inbox.parking.changed)
    async with cancelled_at_end(inbox.run()):
        yield inbox


async def consume(
    broker: Broker, inbox: Inbox, events: Sequence[Message], *, times: int = 1
) -> None:
    """Publishes each event so many times, and waits until all are acknowledged.

    Each message has another id, so the broker stores repeats too.
    """
    for event in events:
        event_id = uuid4()
        for _ in range(times):
            await publish(broker, event, event_id, Nats_Msg_Id=str(uuid4()))

    async def acknowledged() -> bool:
        return all(
            [await all_acknowledged(broker, name, of) for name, of in inbox.consumers.items()]
        )

    await eventually(acknowledged, timeout_s=60)


async def now(operations: Operations, order: Order) -> Order:
    [order] = await operations.reading.get_orders([order.id])
    return order


async def count(engine: AsyncEngine, table: Any) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


def handled(outcome: str) -> float:
    """Returns the number of events that the order service handled with this outcome, in this
    process.
    """
    metrics = [
        sample
        for metric in REGISTRY.collect()
        if metric.name == "inbox_handled"
        for sample in metric.samples
    ]
    return sum(
        each.value
        for each in metrics
        if each.name == "inbox_handled_total"
        and each.labels["outcome"] == outcome
        and each.labels["consumer"].startswith("order-")
    )


async def test_out_of_order_events_skip_backward_moves(
    orders: Orders, operations: Operations, engine: AsyncEngine, broker: Broker
) -> None:
    """The order is delivered, and then all earlier events are published. Each is acknowledged and
    counted as skipped, and no status, version, history row or event is added.

    The same goes for an older version of a fulfilment, in any status.
    """
    order = await place(orders, operations, "london")
    *behind, ahead = working(order, "london", PATH)
    created, arrived = shipped_and_delivered(order, "london")
    async with running_inbox(broker, engine, operations) as inbox:
        await consume(broker, inbox, [paid(order)])
        await consume(broker, inbox, [arrived])
        await consume(broker, inbox, [ahead])
        delivered = await now(operations, order)
        assert (delivered.status, delivered.version) == (Status.DELIVERED, 5)
        before, skipped, published = (
            await snapshot(engine),
            handled("skipped"),
            await count(engine, tables.outbox),
        )
        late = [paid(order), committed(order, "london"), *behind, created]
        await consume(broker, inbox, late)
    assert await snapshot(engine) == before
    assert handled("skipped") - skipped == len(late)
    assert await count(engine, tables.outbox) == published
    assert await count(engine, tables.failed_events) == 0


async def test_duplicate_events_apply_once(
    orders: Orders, operations: Operations, engine: AsyncEngine, broker: Broker
) -> None:
    """Every event of an order comes three times, outside the broker's own window. Each has its
    effect once, and is acknowledged and counted each time; the money is refunded once.
    """
    order = await place(orders, operations, "london")
    created, arrived = shipped_and_delivered(order, "london")
    stages: list[list[Message]] = [
        [paid(order)],
        [*working(order, "london", PATH), created],
        [arrived],
        [refunded(order, 400)],
    ]
    before = handled("done") + handled("repeat")
    async with running_inbox(broker, engine, operations) as inbox:
        for stage in stages:
            await consume(broker, inbox, stage, times=3)
    there = await now(operations, order)
    assert (there.status, there.version) == (Status.DELIVERED, 5)
    assert (there.payment, there.refunded, there.captured) == (
        PaymentStatus.PARTIALLY_REFUNDED,
        400,
        order.total,
    )
    published = [row[2:] for row in (await snapshot(engine))["history"]]
    assert [new for _, new in published] == [
        "pending",
        "confirmed",
        "processing",
        "shipped",
        "delivered",
    ]
    assert await count(engine, tables.outbox) == 5
    assert await count(engine, tables.failed_events) == 0
    assert handled("done") + handled("repeat") - before == 3 * sum(map(len, stages))


async def test_an_unknown_fulfilment_status_is_counted(
    orders: Orders, operations: Operations, engine: AsyncEngine, broker: Broker
) -> None:
    """A status of a newer fulfilment service is acknowledged, changes nothing, and is counted in
    the metrics.
    """
    order = await place(orders, operations, "london")
    fields = ("new_status", "fulfillment.status")
    counted = [unknown(field) for field in fields]
    [event] = working(order, "london", [fulfillment_pb2.FULFILLMENT_STATUS_PICKING])
    # a value that a newer message can have
    event.new_status = event.fulfillment.status = 99  # type: ignore[assignment]
    async with running_inbox(broker, engine, operations) as inbox:
        await consume(broker, inbox, [paid(order)])
        before = await snapshot(engine)
        await consume(broker, inbox, [event])
    assert await snapshot(engine) == before
    assert [unknown(field) for field in fields] == [number + 1 for number in counted]


def unknown(field: str) -> float:
    """Returns how often this field of a fulfilment's event had an unknown value."""
    return measured("inbox_unknown_values_total", event="FulfillmentStatusChanged", field=field)


async def reasons(engine: AsyncEngine) -> list[tuple[str, str]]:
    """Returns the state and the reason of each failed event."""
    columns = tables.failed_events.c
    async with engine.connect() as connection:
        found = await connection.execute(
            select(columns.state, columns.reason).order_by(columns.first_time)
        )
        return [(str(state), reason) for state, reason in found]


async def test_payment_on_foreign_subject_confirms_nothing(
    orders: Orders, operations: Operations, engine: AsyncEngine, broker: Broker
) -> None:
    """PaymentConfirmed on shipments.shipment.created fails as unreadable, and the order stays
    pending; on its own subject it confirms the order.
    """
    order = await place(orders, operations, "london")
    event_id = uuid4()
    headers = {
        "Nats-Msg-Id": str(event_id),
        "ce-id": str(event_id),
        "ce-type": PaymentConfirmed.DESCRIPTOR.full_name,
    }
    async with running_inbox(broker, engine, operations) as inbox:
        await broker.publish(
            "shipments.shipment.created",
            paid(order).SerializeToString(),
            headers,
            stream="SHIPMENTS",
        )
        await consume(broker, inbox, [])
        assert await reasons(engine) == [("failed", "EVENT_UNREADABLE")]
        assert (await now(operations, order)).status is Status.PENDING
        await consume(broker, inbox, [paid(order)])
    assert (await now(operations, order)).status is Status.CONFIRMED


async def test_empty_and_negative_events_change_nothing(
    orders: Orders, operations: Operations, engine: AsyncEngine, broker: Broker
) -> None:
    """An empty body of each consumed type fails as unreadable. So does a fulfilment with a negative
    number of units, and one without a status.

    None is counted as done.
    """
    order = await place(orders, operations, "london")
    before = await snapshot(engine)
    [negative] = working(order, "london", [fulfillment_pb2.FULFILLMENT_STATUS_PICKING])
    nothing = with_units(negative, {1: 1})
    nothing.new_status = fulfillment_pb2.FULFILLMENT_STATUS_UNSPECIFIED
    kinds = list(consumers.handlers(operations.payments, operations.writer))
    done = handled("done") + handled("skipped")
    async with running_inbox(broker, engine, operations) as inbox:
        await consume(
            broker, inbox, [*(kind() for kind in kinds), with_units(negative, {1: -1}), nothing]
        )
    assert await reasons(engine) == [("failed", "EVENT_UNREADABLE")] * (len(kinds) + 2)
    assert await snapshot(engine) == before
    assert handled("done") + handled("skipped") == done


async def test_forged_version_fails_and_true_ones_count(
    orders: Orders, operations: Operations, engine: AsyncEngine, broker: Broker
) -> None:
    """A fulfilment's event of version 2^60 fails, and the true events after it move the order."""
    order = await place(orders, operations, "london")
    [true] = working(order, "london", [fulfillment_pb2.FULFILLMENT_STATUS_PICKING])
    forged = FulfillmentStatusChanged()
    forged.CopyFrom(true)
    forged.fulfillment.version = 2**60
    async with running_inbox(broker, engine, operations) as inbox:
        await consume(broker, inbox, [paid(order)])
        await consume(broker, inbox, [forged])
        assert await reasons(engine) == [("failed", "VERSION_JUMP")]
        assert (await now(operations, order)).status is Status.CONFIRMED
        await consume(broker, inbox, [true])
    assert (await now(operations, order)).status is Status.PROCESSING
