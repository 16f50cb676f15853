"""Returns and the events of their order: refunds, and recalled goods. Repeated, concurrent, and in
every order.
"""

import asyncio
import random
from itertools import permutations
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.v1 import order_service_pb2, return_pb2
from ordermesh.order.v1 import return_service_pb2 as api
from ordermesh.payment.events.v1.payment_events_pb2 import RefundCompleted, RefundFailed
from ordermesh.payment.v1 import payment_pb2
from ordermesh.shipping.events.v1.shipping_events_pb2 import ShipmentStatusChanged
from ordermesh.shipping.v1 import shipping_pb2
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.decision import Done
from chassis.values.errors import Deferred, Failure
from chassis.values.money import to_message
from order_svc import tables
from order_svc.app import Operations
from order_svc.lifecycle import (
    PaymentStatus,
    ReturnKind,
    ReturnProgress,
    ReturnStatus,
    Status,
    StockStatus,
)
from order_svc.model.records import Order
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.events import (
    committed,
    delivery,
    paid,
    parcel_ended,
    shipped_and_delivered,
    shipped_fulfilment,
)
from tests.integration.order.requests import Orders, Returns, create_order, item
from tests.integration.order.returns import (
    about,
    approved,
    inspection,
    made,
    published,
    receipt,
)
from tests.integration.order.test_events import deliver

SHIPPED, COMPLETED = (
    fulfillment_pb2.FULFILLMENT_STATUS_SHIPPED,
    fulfillment_pb2.FULFILLMENT_STATUS_COMPLETED,
)
LAMPS = {1: 3}


async def current_order(operations: Operations, order: Order) -> Order:
    """Returns the order as it stands."""
    [order] = await operations.reading.get_orders([order.id])
    return order


async def placed(orders: Orders, operations: Operations) -> Order:
    """Returns a paid order of three lamps (10.00 each) and two bulbs (1.00 each)."""
    made = (
        await orders.CreateOrder(create_order(item("LAMP", 3, 10), item("BULB", 2, 1)), timeout=30)
    ).order
    [order] = await operations.reading.get_orders([UUID(made.order_id)])
    [outcome] = await deliver(operations, [delivery(paid(order))])
    assert isinstance(outcome, Done)
    return await current_order(operations, order)


async def delivered(orders: Orders, operations: Operations) -> Order:
    order = await placed(orders, operations)
    await deliver(
        operations,
        [
            delivery(event)
            for event in (
                *shipped_fulfilment(order, "london", {1: 3, 2: 2}),
                *shipped_and_delivered(order, "london"),
            )
        ],
    )
    return await current_order(operations, order)


async def inspected(returns: Returns, order: Order, lines: dict[int, int]) -> return_pb2.Return:
    """Returns a return of the order whose units were all received and accepted."""
    order_return = await approved(returns, order, lines)
    await ask(returns.ReceiveReturn, receipt(order_return, lines))
    good = {number: (units, 0, 0) for number, units in lines.items()}
    return (await ask(returns.InspectReturn, inspection(order_return, good))).order_return


def refund(
    order: Order, amount: int, *, of: str | None = None, so_far: int | None = None
) -> RefundCompleted:
    """Returns the event of a refund: for a return, or for a caller's request."""
    cause = payment_pb2.REFUND_CAUSE_RETURN if of else payment_pb2.REFUND_CAUSE_REQUEST
    current = payment_pb2.Refund(
        refund_id=str(uuid4()),
        order_id=str(order.id),
        attempt=order.attempt,
        amount=to_message(order.money(amount)),
        cause=cause,
        cause_id=of or str(uuid4()),
    )
    captured, refunded = order.money(order.total), order.money(amount if so_far is None else so_far)
    return RefundCompleted(
        refund=current, captured_amount=to_message(captured), refunded_amount=to_message(refunded)
    )


def no_refund(order: Order, code: str, *, of: str, so_far: int = 0) -> RefundFailed:
    refunded = refund(order, 0, of=of, so_far=so_far)
    refunded.refund.failure_code = code
    return RefundFailed(
        refund=refunded.refund,
        captured_amount=refunded.captured_amount,
        refunded_amount=refunded.refunded_amount,
    )


def came_back(shipment: shipping_pb2.Shipment) -> ShipmentStatusChanged:
    status = shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER
    return ShipmentStatusChanged(shipment=shipment, new_status=status)


def cancellation(order: Order) -> order_service_pb2.CancelOrderRequest:
    return order_service_pb2.CancelOrderRequest(request_id=str(uuid4()), order_id=str(order.id))


async def shuffled(operations: Operations, events: list[Message], seed: int) -> None:
    """Delivers each event twice, in any order, in sets of any size, until all are done."""
    dice = random.Random(seed)
    waiting = [delivery(event) for event in events] * 2
    dice.shuffle(waiting)
    while waiting:
        size = dice.randint(1, 4)
        batch, waiting = waiting[:size], waiting[size:]
        outcomes = await deliver(operations, batch)
        assert all(isinstance(outcome, Done | Deferred) for outcome in outcomes)
        waiting += [
            d for d, outcome in zip(batch, outcomes, strict=True) if isinstance(outcome, Deferred)
        ]


def recalled(order: Order) -> list[tuple[ReturnStatus, dict[int, int]]]:
    """Returns the status of each recall of the order, and its announced units by line."""
    return [
        (order_return.status, {line.number: line.announced for line in order_return.lines})
        for order_return in order.returns
        if order_return.kind is ReturnKind.RECALL
    ]


async def taken_in(returns: Returns, operations: Operations, order: Order) -> Order:
    """Receives and accepts all units of the order's returns."""
    for order_return in order.returns:
        named = return_pb2.Return(return_id=str(order_return.id))
        units = {line.number: line.announced for line in order_return.lines}
        await ask(returns.ReceiveReturn, receipt(named, units))
        await ask(
            returns.InspectReturn,
            inspection(named, {number: (n, 0, 0) for number, n in units.items()}),
        )
    return await current_order(operations, order)


# --- money


@pytest.mark.parametrize("turn", list(permutations(range(3))))
async def test_refund_closes_its_return_in_any_order_of_events(
    returns: Returns,
    orders: Orders,
    operations: Operations,
    engine: AsyncEngine,
    turn: tuple[int, ...],
) -> None:
    """A first refund fails, a second completes, and its event comes twice. The return is closed
    with the refunded amount, and the order counts that amount once.
    """
    order = await delivered(orders, operations)
    order_return = await inspected(returns, order, {1: 2})
    done = refund(order, 2000, of=order_return.return_id)
    events: list[Message] = [
        no_refund(order, "card_expired", of=order_return.return_id),
        done,
        done,
    ]
    for number in turn:
        [outcome] = await deliver(operations, [delivery(events[number])])
        assert isinstance(outcome, Done)
    order = await current_order(operations, order)
    [current] = order.returns
    assert (current.status, current.status_reason, current.refunded) == (
        ReturnStatus.CLOSED,
        "RETURN_CLOSED",
        2000,
    )
    assert (order.refunded, order.payment, order.status) == (
        2000,
        PaymentStatus.PARTIALLY_REFUNDED,
        Status.DELIVERED,
    )
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(tables.return_history.c.new).order_by(tables.return_history.c.version)
        )
        steps = [str(row.new.value) for row in rows]
    assert [step for step in steps if step in ("refunded", "closed")] == ["refunded", "closed"]


async def test_second_refund_of_a_return_closes_it(
    returns: Returns, orders: Orders, operations: Operations
) -> None:
    """The first refund was refused. The second has another id and names the return, which is
    refunded and closed.
    """
    order = await delivered(orders, operations)
    order_return = await inspected(returns, order, {1: 2})
    await deliver(
        operations, [delivery(no_refund(order, "card_closed", of=order_return.return_id))]
    )
    [current] = (await current_order(operations, order)).returns
    assert (current.status, current.status_reason) == (ReturnStatus.INSPECTED, "REFUND_FAILED")
    done = refund(order, 2000, of=f"{order_return.return_id}:2")
    done.refund.return_id = order_return.return_id
    [outcome] = await deliver(operations, [delivery(done)])
    assert isinstance(outcome, Done)
    [current] = (await current_order(operations, order)).returns
    assert (current.status, current.status_reason, current.refunded) == (
        ReturnStatus.CLOSED,
        "RETURN_CLOSED",
        2000,
    )


async def test_return_of_all_units_refunds_the_order(
    returns: Returns, orders: Orders, operations: Operations
) -> None:
    """All units and all money go back: the order is refunded and its stock returned. A further
    return is refused.
    """
    order = await delivered(orders, operations)
    order_return = await inspected(returns, order, {1: 3, 2: 2})
    assert order_return.refund_amount == to_message(order.money(order.total))
    await deliver(operations, [delivery(refund(order, order.total, of=order_return.return_id))])
    order = await current_order(operations, order)
    assert (order.status, order.payment) == (Status.REFUNDED, PaymentStatus.REFUNDED)
    assert (order.return_progress, order.stock) == (ReturnProgress.FULL, StockStatus.RETURNED)
    with pytest.raises(Failure) as refused:
        await made(returns, order, {1: 1})
    assert refused.value.reason == "RETURN_EXCEEDS_DELIVERED"


@pytest.mark.parametrize("attempt", range(2))
async def test_refund_during_inspection_closes_the_return(
    returns: Returns, orders: Orders, operations: Operations, attempt: int
) -> None:
    """A caller refunds all money during the inspection. Both changes are stored; payment has no
    money left to refund, and its event closes the return.
    """
    order = await delivered(orders, operations)
    order_return = await approved(returns, order, LAMPS)
    await ask(returns.ReceiveReturn, receipt(order_return, LAMPS))
    look, whole = inspection(order_return, {1: (3, 0, 0)}), delivery(refund(order, order.total))
    await asyncio.gather(ask(returns.InspectReturn, look), deliver(operations, [whole]))
    order = await current_order(operations, order)
    assert (order.status, order.returns[0].status, order.returns[0].refund) == (
        Status.REFUNDED,
        ReturnStatus.INSPECTED,
        3000,
    )
    nothing = no_refund(order, "nothing_refundable", of=order_return.return_id, so_far=order.total)
    for event in (nothing, nothing):
        await deliver(operations, [delivery(event)])
    order = await current_order(operations, order)
    assert (order.returns[0].status, order.returns[0].status_reason) == (
        ReturnStatus.CLOSED,
        "NOTHING_REFUNDABLE",
    )
    assert (order.refunded, order.returns[0].refunded) == (order.total, 0)


async def test_refund_of_an_unknown_return_changes_the_order_alone(
    orders: Orders, operations: Operations
) -> None:
    """A refund with an unknown return, or with a return of another order, counts for its order
    only.
    """
    order = await delivered(orders, operations)
    [outcome] = await deliver(operations, [delivery(refund(order, 500, of=str(uuid4())))])
    assert isinstance(outcome, Done)
    assert (await current_order(operations, order)).refunded == 500


# --- goods that are recalled


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("first", ["cancelled", "shipped"])
async def test_shipped_units_of_cancelled_order_are_recalled_once(
    returns: Returns, orders: Orders, operations: Operations, first: str, seed: int
) -> None:
    """The order is cancelled before or after the events, each twice and in any order. One approved
    return recalls the shipped units, without a refund.
    """
    order = await placed(orders, operations)
    created, _ = shipped_and_delivered(order, "london")
    events: list[Message] = [created, *shipped_fulfilment(order, "london", {1: 3, 2: 2})]
    if first == "cancelled":
        await ask(orders.CancelOrder, cancellation(order))
    await shuffled(operations, events, seed)
    if first == "shipped":
        await ask(orders.CancelOrder, cancellation(order))
        await shuffled(operations, events, seed + 1)
    order = await current_order(operations, order)
    assert order.status is Status.CANCELLED
    assert recalled(order) == [(ReturnStatus.APPROVED, {1: 3, 2: 2})]
    assert order.return_progress is ReturnProgress.OPEN
    order = await taken_in(returns, operations, order)
    assert [
        (order_return.status, order_return.refund, order_return.refunded)
        for order_return in order.returns
    ] == [(ReturnStatus.CLOSED, 0, 0)]
    assert (order.return_progress, order.stock) == (ReturnProgress.FULL, StockStatus.RETURNED)


@pytest.mark.parametrize("attempt", range(2))
async def test_cancellation_during_shipment_makes_one_recall(
    orders: Orders, operations: Operations, attempt: int
) -> None:
    """In either order, the order is cancelled, and one recall has all shipped units."""
    order = await placed(orders, operations)
    created, _ = shipped_and_delivered(order, "london")
    shipped = [
        delivery(event) for event in (created, *shipped_fulfilment(order, "london", {1: 3, 2: 2}))
    ]
    await asyncio.gather(
        ask(orders.CancelOrder, cancellation(order)),
        deliver(operations, shipped),
        deliver(operations, shipped),
    )
    order = await current_order(operations, order)
    assert (order.status, recalled(order)) == (
        Status.CANCELLED,
        [(ReturnStatus.APPROVED, {1: 3, 2: 2})],
    )


@pytest.mark.parametrize("seed", range(3))
async def test_one_of_two_parcels_returned_to_sender_is_recalled(
    returns: Returns, orders: Orders, operations: Operations, warehouse: FakeWarehouse, seed: int
) -> None:
    """One parcel of two returns to its sender: its units count as cancelled and arrive by a recall.
    The other parcel is delivered.
    """
    warehouse.allocated_warehouses = ("london", "paris")
    order = await placed(orders, operations)
    created, arrives = shipped_and_delivered(order, "london")
    elsewhere, _ = shipped_and_delivered(order, "paris")
    events: list[Message] = [
        committed(order, "london"),
        *shipped_fulfilment(order, "london", {1: 3}),
        created,
        arrives,
    ]
    events += [
        *shipped_fulfilment(order, "paris", {2: 2}),
        elsewhere,
        came_back(elsewhere.shipment),
    ]
    await shuffled(operations, events, seed)
    order = await current_order(operations, order)
    assert (order.status, [line.cancelled for line in order.lines]) == (Status.DELIVERED, [0, 2])
    assert recalled(order) == [(ReturnStatus.APPROVED, {2: 2})]
    assert order.total == 3000
    order = await taken_in(returns, operations, order)
    assert order.return_progress is ReturnProgress.PARTIAL
    order_return = await inspected(returns, order, LAMPS)
    assert order_return.refund_amount == to_message(order.money(3000))
    order = await current_order(operations, order)
    assert (order.return_progress, order.stock) == (ReturnProgress.FULL, StockStatus.RETURNED)


@pytest.mark.parametrize("seed", range(2))
async def test_units_cut_after_shipping_are_recalled(
    orders: Orders, operations: Operations, seed: int
) -> None:
    """One lamp of three is cancelled, and all three ship: one lamp is recalled without a refund,
    and the customer keeps the others.
    """
    order = await placed(orders, operations)
    line = order_service_pb2.CancelledLine(line_number=1, quantity=1)
    cut = order_service_pb2.CancelOrderItemsRequest(
        request_id=str(uuid4()), order_id=str(order.id), lines=[line]
    )
    await ask(orders.CancelOrderItems, cut)
    await shuffled(
        operations,
        [
            *shipped_fulfilment(order, "london", {1: 3, 2: 2}),
            *shipped_and_delivered(order, "london"),
        ],
        seed,
    )
    order = await current_order(operations, order)
    assert (order.status, recalled(order)) == (Status.DELIVERED, [(ReturnStatus.APPROVED, {1: 1})])
    assert order.total == 2200


async def test_cancelled_recall_is_not_made_again(
    returns: Returns, orders: Orders, operations: Operations
) -> None:
    """An operator cancels the recall of a parcel that is lost on its way back; later events of the
    parcel make no second return.
    """
    order = await placed(orders, operations)
    created, arrives = shipped_and_delivered(order, "london")
    late_events = shipped_fulfilment(order, "london", {1: 3, 2: 2})
    await deliver(operations, [delivery(created), delivery(late_events[0])])
    await ask(orders.CancelOrder, cancellation(order))
    [order_return] = (await current_order(operations, order)).returns
    await ask(
        returns.CancelReturn,
        api.CancelReturnRequest(**about(return_pb2.Return(return_id=str(order_return.id)))),
    )
    await deliver(operations, [delivery(late_events[1]), delivery(arrives)])
    assert recalled(await current_order(operations, order)) == [
        (ReturnStatus.CANCELLED, {1: 3, 2: 2})
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_lost_parcel_of_a_cancelled_order_leaves_no_recall_open(
    orders: Orders, operations: Operations, engine: AsyncEngine, seed: int
) -> None:
    """The parcel is shipped and lost, each event twice and in any order after the cancellation. No
    recall stays open, and each version is published once.
    """
    order = await placed(orders, operations)
    created, _ = shipped_and_delivered(order, "london")
    lost = parcel_ended(created.shipment, shipping_pb2.SHIPMENT_STATUS_LOST)
    await ask(orders.CancelOrder, cancellation(order))
    await shuffled(
        operations, [created, lost, *shipped_fulfilment(order, "london", {1: 3, 2: 2})], seed
    )
    order = await current_order(operations, order)
    assert (order.status, order.return_progress, order.stock) == (
        Status.CANCELLED,
        ReturnProgress.NONE,
        StockStatus.DEDUCTED,
    )
    assert [order_return.status for order_return in order.returns] in ([], [ReturnStatus.CANCELLED])
    for order_return in order.returns:
        assert [
            (event.order_return.status, event.order_return.status_reason)
            for event in await published(engine, str(order_return.id))
        ] == [
            (return_pb2.RETURN_STATUS_APPROVED, "RECALLED"),
            (return_pb2.RETURN_STATUS_CANCELLED, "PARCEL_LOST"),
        ]
