"""How the order service applies the events of other services: repeated, in every order, concurrent,
and invalid.
"""

import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.order.v1 import order_service_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.v1 import warehouse_pb2
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Deferred, NotFound, Refused
from order_svc import consumers, tables
from order_svc.app import Operations
from order_svc.lifecycle import FulfillmentState, PaymentStatus, Status, StockStatus
from order_svc.model.commands import CommitRefused
from order_svc.model.records import Order
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.events import (
    WORK,
    committed,
    delivery,
    fewer_lines,
    not_paid,
    paid,
    parcel_ended,
    refunded,
    shipped_and_delivered,
    with_units,
    working,
)
from tests.integration.order.requests import Orders, create_order, item

PATH = [
    WORK.FULFILLMENT_STATUS_PENDING,
    WORK.FULFILLMENT_STATUS_PLANNING,
    WORK.FULFILLMENT_STATUS_PICKING,
    WORK.FULFILLMENT_STATUS_PICKED,
]


async def place(orders: Orders, operations: Operations, *warehouses: str) -> Order:
    """Places an order of a line from each warehouse."""
    request = create_order(*(item(f"SKU-{n}", n + 1) for n, _ in enumerate(warehouses)))
    placed = (await orders.CreateOrder(request, timeout=30)).order
    [order] = await operations.reading.get_orders([UUID(placed.order_id)])
    return order


async def deliver(
    operations: Operations, deliveries: Sequence[Delivery[Message]]
) -> list[Outcome[Any]]:
    """Hands over a batch as the inbox does: each event type as one set, one type after the
    other.
    """
    handlers = consumers.handlers(operations.payments, operations.writer)
    outcomes: dict[int, Outcome[Any]] = {}
    for kind, handler in handlers.items():
        if chosen := [d for d in deliveries if isinstance(d.message, kind)]:
            outcomes |= {
                id(d): outcome for d, outcome in zip(chosen, await handler(chosen), strict=True)
            }
    return [outcomes[id(d)] for d in deliveries]


async def snapshot(
    engine: AsyncEngine, order: Order | None = None
) -> dict[str, list[tuple[Any, ...]]]:
    """Returns the rows of the order, or of all orders, without times, reasons and causes.

    These depend on the order of the events; all other columns must not. Each id is replaced by the
    same text.
    """
    kept = {
        tables.orders: [
            "id",
            "status",
            "version",
            "payment",
            "progress",
            "stock",
            "captured",
            "refunded",
        ],
        tables.history: ["order_id", "version", "old", "new"],
        tables.warehouse_fulfillments: [*tables.warehouse_fulfillments.c.keys()],
        tables.allocations: [*tables.allocations.c.keys()],
        tables.lines: [*tables.lines.c.keys()],
    }
    stored: dict[str, list[tuple[Any, ...]]] = {}
    async with engine.connect() as connection:
        for table, columns in kept.items():
            statement = select(*(table.c[c] for c in columns))
            if order:
                statement = statement.where(
                    table.c["id" if table is tables.orders else "order_id"] == order.id
                )
            rows = [
                tuple("an id" if isinstance(value, UUID) else value for value in row)
                for row in await connection.execute(statement)
            ]
            stored[table.name] = sorted(rows, key=repr)
    return stored


def life(order: Order) -> list[Message]:
    """Returns all events of an order that London and Paris serve, in their natural order."""
    events: list[Message] = [paid(order)]
    for at in ("london", "paris"):
        events += [
            committed(order, at),
            *working(order, at, PATH),
            *shipped_and_delivered(order, at),
        ]
    return events


async def shuffled(operations: Operations, events: Sequence[Message], dice: random.Random) -> None:
    """Delivers each event twice, in any order, in sets of any size; deferred events come again."""
    waiting = [delivery(event) for event in events] * 2
    dice.shuffle(waiting)
    while waiting:
        size = dice.randint(1, 8)
        batch, waiting = waiting[:size], waiting[size:]
        outcomes = await deliver(operations, batch)
        assert all(isinstance(outcome, Done | Deferred) for outcome in outcomes)
        waiting += [
            d for d, outcome in zip(batch, outcomes, strict=True) if isinstance(outcome, Deferred)
        ]


@pytest.mark.parametrize("seed", range(12))
async def test_events_in_any_order_leave_the_same_tables(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse, engine: AsyncEngine, seed: int
) -> None:
    """Sixteen events are each delivered twice, shuffled and cut into sets. The order is always
    delivered, with the same rows as in the natural order.
    """
    warehouse.allocated_warehouses = ("london", "paris")
    order = await place(orders, operations, "london", "paris")
    await shuffled(operations, life(order), random.Random(seed))
    seen = await snapshot(engine, order)
    assert [row[2:] for row in seen["history"]] == [
        (None, "pending"),
        ("pending", "confirmed"),
        ("confirmed", "processing"),
        ("processing", "shipped"),
        ("shipped", "delivered"),
    ]
    assert seen["orders"] == [
        (
            "an id",
            Status.DELIVERED,
            5,
            PaymentStatus.COMPLETED,
            "delivered",
            StockStatus.DEDUCTED,
            order.total,
            0,
        )
    ]
    async with engine.connect() as connection:
        stored = (await connection.execute(select(tables.outbox.c.aggregate))).scalars().all()
    assert stored == [order.id] * 5
    natural = await place(orders, operations, "london", "paris")
    for event in life(natural):
        assert isinstance((await deliver(operations, [delivery(event)]))[0], Done)
    assert await snapshot(engine, natural) == seen


@pytest.mark.parametrize("seed", range(12))
async def test_failure_events_in_any_order_leave_the_same_tables(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse, engine: AsyncEngine, seed: int
) -> None:
    """London's parcel is returned. Paris finds one unit of two and delivers it. The money for both
    is refunded in two steps.

    The order is delivered, with two units cancelled and one recalled; its cost is the money that
    remains. Each version is published once.
    """
    warehouse.allocated_warehouses = ("london", "paris")
    order = await place(orders, operations, "london", "paris")
    full, short_path = (
        [*PATH, WORK.FULFILLMENT_STATUS_SHIPPED],
        [*PATH[:3], WORK.FULFILLMENT_STATUS_SHIPPED],
    )
    london = [with_units(event, {1: 1}) for event in working(order, "london", full)]
    paris = [with_units(event, {2: 2}) for event in working(order, "paris", short_path)]
    short = fewer_lines(paris[0], 4, {2: 1}, "SHORT_PICK")
    paris[3].fulfillment.version, paris[3].fulfillment.picklist[0].quantity = 5, 1
    created, _ = shipped_and_delivered(order, "london")
    came_back = parcel_ended(created.shipment, shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER)
    events: list[Message] = [paid(order), *(committed(order, at) for at in ("london", "paris"))]
    events += [*london, *paris, short, created, came_back, *shipped_and_delivered(order, "paris")]
    events += [refunded(order, 1000), refunded(order, 2000)]
    await shuffled(operations, events, random.Random(seed))
    [now] = await operations.reading.get_orders([order.id])
    assert (now.status, now.version, now.payment) == (
        Status.DELIVERED,
        7,
        PaymentStatus.PARTIALLY_REFUNDED,
    )
    assert (now.total, now.captured, now.refunded) == (1000, 3000, 2000)
    assert [
        (line.cancelled, [(a.quantity, a.shipped) for a in line.allocations]) for line in now.lines
    ] == [(1, [(0, 1)]), (1, [(1, 1)])]
    assert [
        {line.number: line.announced for line in order_return.lines} for order_return in now.returns
    ] == [{1: 1}]
    seen = await snapshot(engine, order)
    assert sorted(row[3] for row in seen["history"] if row[2] != row[3]) == sorted(
        ["pending", "confirmed", "processing", "shipped", "delivered"]
    )
    async with engine.connect() as connection:
        stored = (await connection.execute(select(tables.outbox.c.aggregate))).scalars().all()
    assert sorted(stored) == sorted([order.id] * 7 + [now.returns[0].id])


async def test_withdrawn_shipment_consumed_later_stays_void(
    orders: Orders,
    operations: Operations,
    warehouse: FakeWarehouse,
) -> None:
    """The order stores the version at which London's label was withdrawn. The label's own event
    comes later, with that of Paris' label: the order is processing.
    """
    warehouse.allocated_warehouses = ("london", "paris")
    order = await place(orders, operations, "london", "paris")
    created, _ = shipped_and_delivered(order, "london")
    created.shipment.fulfillment_version = 5
    void = parcel_ended(created.shipment, shipping_pb2.SHIPMENT_STATUS_VOIDED)
    void.shipment.withdraw_version = 6
    others, _ = shipped_and_delivered(order, "paris")
    await deliver(operations, [delivery(paid(order)), delivery(void)])
    await deliver(operations, [delivery(created), delivery(others)])
    [now] = await operations.reading.get_orders([order.id])
    london, _ = now.fulfillments
    assert (now.status, london.shipment_id) == (Status.PROCESSING, None)
    assert london.withdraw_version == 6


async def test_payments_of_many_orders_commit_in_one_call(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """A batch of payments makes one call to the warehouse; each order is confirmed."""
    placed = [await place(orders, operations, "london") for _ in range(5)]
    outcomes = await deliver(operations, [delivery(paid(order)) for order in placed])
    assert [outcome.record.status for outcome in outcomes if isinstance(outcome, Done)] == [
        Status.CONFIRMED
    ] * 5
    assert len(warehouse.asked_to_commit) == 1
    assert len(warehouse.asked_to_commit[0]) == 5


async def test_payments_without_effect_commit_no_stock(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """A repeated payment, another payment of the same order, and a payment of a cancelled order
    commit no stock.
    """
    order, cancelled = [await place(orders, operations, "london") for _ in range(2)]
    first = delivery(paid(order))
    assert isinstance((await deliver(operations, [first]))[0], Done)
    cancelling = order_service_pb2.CancelOrderRequest(
        request_id=str(uuid4()), order_id=str(cancelled.id), reason="CUSTOMER_REQUEST"
    )
    await orders.CancelOrder(cancelling, timeout=30)
    outcomes = await deliver(operations, [first, delivery(paid(order)), delivery(paid(cancelled))])
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert warehouse.asked_to_commit == [[(order.id, 1)]]


async def test_warehouse_event_completes_pending_commit(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """The order is confirmed with its commit pending, and is listed so; the warehouse's event
    completes the commit.
    """
    order = await place(orders, operations, "london")
    warehouse.away = True
    [outcome] = await deliver(operations, [delivery(paid(order))])
    assert isinstance(outcome, Done)
    assert (outcome.record.status, outcome.record.stock) == (
        Status.CONFIRMED,
        StockStatus.COMMIT_PENDING,
    )
    [outcome] = await deliver(operations, [delivery(committed(order, "london"))])
    assert isinstance(outcome, Done)
    assert outcome.record.stock is StockStatus.COMMITTED


async def test_refused_payment_of_a_set_delays_no_other(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """One set has a good payment, one whose stock has expired, one of another amount, and one of an
    unknown order.
    """
    good, expired, cheap = [await place(orders, operations, "london") for _ in range(3)]
    warehouse.answers[expired.id] = CommitRefused("RESERVATION_EXPIRED")
    less = paid(cheap)
    less.captured_amount.units -= 1
    unknown = paid(good)
    unknown.order_id = "01890000-0000-7000-8000-000000000000"
    outcomes = await deliver(
        operations, [delivery(event) for event in (paid(good), paid(expired), less, unknown)]
    )
    assert [o.record.status if isinstance(o, Done) else type(o) for o in outcomes] == [
        Status.CONFIRMED,
        Status.FAILED,
        Refused,
        NotFound,
    ]


async def test_failed_payment_cancels_the_order_once(
    orders: Orders, operations: Operations
) -> None:
    """The order is cancelled with the reason; a repeat, and a late capture, change nothing."""
    order = await place(orders, operations, "london")
    failed = delivery(not_paid(order))
    await deliver(operations, [failed, failed])
    await deliver(operations, [delivery(not_paid(order)), delivery(paid(order))])
    [cancelled] = await operations.reading.get_orders([order.id])
    assert (cancelled.status, cancelled.reason, cancelled.version) == (
        Status.CANCELLED,
        "PAYMENT_FAILED",
        2,
    )


async def test_database_refuses_invalid_orders(
    orders: Orders, operations: Operations, engine: AsyncEngine
) -> None:
    """Constraints refuse a pending order without a deadline, more cancelled units than ordered
    ones, and the same cause twice for one status.
    """
    await place(orders, operations, "london")
    for statement in (
        "update orders set expire_time = null",
        "update order_lines set cancelled = quantity + 1",
        "update orders set version = 0",
        (
            "insert into history select order_id, v, 1, 'pending', 'failed', reason, actor, cause,"
            " time from history, generate_series(2, 3) v"
        ),
        "update orders set refunded = captured + 1",
        "update allocations set quantity = -1",
    ):
        with pytest.raises(Exception, match="violates"):
            async with engine.begin() as connection:
                await connection.execute(text(statement))


async def test_expired_reservation_without_an_order_changes_nothing(
    orders: Orders, operations: Operations, engine: AsyncEngine
) -> None:
    """Stock was reserved and the order never written. The warehouse's event of the expiry is done,
    beside other events in one set.

    The event of a commit, or of a refusal, for an unknown order is NotFound, so that it is tried
    again.
    """
    order = await place(orders, operations, "london")
    await deliver(operations, [delivery(paid(order))])
    lapsed = committed(order, "london")
    lapsed.reservation.order_id = str(uuid4())
    lapsed.reservation.status = warehouse_pb2.RESERVATION_STATUS_EXPIRED
    for each in lapsed.attempt_reservations:
        each.order_id, each.status = (
            lapsed.reservation.order_id,
            warehouse_pb2.RESERVATION_STATUS_EXPIRED,
        )
    expired = delivery(lapsed)
    before = await snapshot(engine)
    outcomes = await deliver(operations, [expired, delivery(committed(order, "london")), expired])
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert await snapshot(engine) == before
    ahead, refused = committed(order, "london"), committed(order, "london")
    for event in (ahead, refused):
        event.reservation.order_id = str(uuid4())
    del refused.attempt_reservations[:]
    refused.confirm_refused_reason = "RESERVATION_EXPIRED"
    assert [
        type(outcome) for outcome in await deliver(operations, [delivery(ahead), delivery(refused)])
    ] == [NotFound, NotFound]


async def test_units_cancelled_before_payment_expect_no_fulfilment(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """The event of the commit comes before the payment, and all of Paris's units are cancelled:
    London's parcel delivers the order.
    """
    warehouse.allocated_warehouses = ("london", "paris")
    order = await place(orders, operations, "london", "paris")
    await deliver(operations, [delivery(committed(order, "london"))])
    lines = [order_service_pb2.CancelledLine(line_number=2, quantity=order.lines[1].quantity)]
    request = order_service_pb2.CancelOrderItemsRequest(
        request_id=str(uuid4()), order_id=str(order.id), lines=lines
    )
    await orders.CancelOrderItems(request, timeout=30)
    [order] = await operations.reading.get_orders([order.id])
    created, delivered = shipped_and_delivered(order, "london")
    for message in (paid(order), *working(order, "london", PATH), created, delivered):
        await deliver(operations, [delivery(message)])
    [order] = await operations.reading.get_orders([order.id])
    assert order.status is Status.DELIVERED
    assert [
        (fulfillment.warehouse_id, fulfillment.state)
        for fulfillment in order.fulfillments
        if fulfillment.state is FulfillmentState.CANCELLED
    ] == [("paris", FulfillmentState.CANCELLED)]
